//! Data integrations.

use borealis_proto::v1;

use super::{
    Output,
    record::{Record, Value},
    table::{self, Cell},
    time::local,
};
use crate::failure::Failure;

// === impl Output ===

impl Output {
    /// Prints data integrations.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn integrations(&self, integrations: &[v1::Integration]) -> Result<(), Failure> {
        let record = |integration: &v1::Integration| {
            Record::new([
                ("name", (&integration.name).into()),
                ("db_username", (&integration.db_username).into()),
                ("ssh_username", (&integration.ssh_username).into()),
                ("write_access", integration.write_access.into()),
                ("created_at", integration.created_at.as_ref().into()),
            ])
        };
        let records: Vec<_> = integrations.iter().map(record).collect();
        let keys = [
            "name",
            "db_username",
            "ssh_username",
            "write_access",
            "created_at",
        ];
        self.records(&keys, &records, || {
            let row = |integration: &v1::Integration| {
                let access = if integration.write_access {
                    "yes"
                } else {
                    "no"
                };
                vec![
                    Cell::new(&integration.name),
                    Cell::new(&integration.db_username),
                    Cell::new(&integration.ssh_username),
                    Cell::new(access),
                    Cell::new(local(integration.created_at.as_ref()).unwrap_or_default()),
                ]
            };
            let headings = [
                "DATA INTEGRATION",
                "DB USERNAME",
                "SSH USERNAME",
                "WRITE ACCESS",
                "CREATED AT",
            ];
            let rows: Vec<_> = integrations.iter().map(row).collect();
            table::columns(&headings, &rows, self.results, None)
        })
    }

    /// Prints what a new data integration's service is to be given.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub(crate) fn credentials(
        &self,
        name: &str,
        credentials: &v1::IntegrationCredentials,
    ) -> Result<(), Failure> {
        let (db_port, ssh_port) = (credentials.db_port, credentials.ssh_port);
        let record = Record::new([
            ("name", Value::Text(name.to_owned())),
            ("db_host", (&credentials.db_host).into()),
            ("db_port", Value::Number(db_port.into())),
            ("db_name", (&credentials.db_name).into()),
            ("db_username", (&credentials.db_username).into()),
            ("db_password", (&credentials.db_password).into()),
            ("ssh_host", (&credentials.ssh_host).into()),
            ("ssh_port", Value::Number(ssh_port.into())),
            ("ssh_username", (&credentials.ssh_username).into()),
            (
                "public_ssh_host_key",
                (&credentials.public_ssh_host_key).into(),
            ),
        ]);
        self.record(&record, || {
            let lines = [
                ("Database Host", Cell::new(&credentials.db_host)),
                ("Database Port", Cell::new(db_port.to_string())),
                ("Database Name", Cell::new(&credentials.db_name)),
                ("Database Username", Cell::new(&credentials.db_username)),
                ("Database Password", Cell::new(&credentials.db_password)),
                ("SSH Host", Cell::new(&credentials.ssh_host)),
                ("SSH Port", Cell::new(ssh_port.to_string())),
                ("SSH Username", Cell::new(&credentials.ssh_username)),
                (
                    "SSH Server Public Host Key",
                    Cell::new(&credentials.public_ssh_host_key),
                ),
            ];
            table::labelled(&lines, self.results)
        })
    }
}
