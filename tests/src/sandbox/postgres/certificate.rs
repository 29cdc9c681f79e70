//! The database server's TLS certificate and the authority that signed it, both made for
//! one sandbox.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};

use super::super::SandboxError;

/// PEM texts.
pub(crate) struct Certificate {
    pub(crate) authority: String,
    pub(crate) chain: String,
    pub(crate) key: String,
}

/// Makes an authority and, signed by it, a certificate for the loopback names.
///
/// # Errors
/// When the system has no randomness.
pub(crate) fn make() -> Result<Certificate, SandboxError> {
    build().map_err(|error| SandboxError::failed(format!("making a TLS certificate: {error}")))
}

fn build() -> Result<Certificate, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
        .distinguished_name
        .push(DnType::CommonName, "Borealis sandbox authority");
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;

    let mut params = CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()])?;
    params
        .distinguished_name
        .push(DnType::CommonName, "Borealis sandbox database");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, &authority)?;
    Ok(Certificate {
        authority: authority.pem(),
        chain: certificate.pem(),
        key: key.serialize_pem(),
    })
}
