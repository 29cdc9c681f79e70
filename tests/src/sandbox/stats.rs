//! What a sandbox has seen, in numbers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{AddonState, BastionStats, Running};

/// What a sandbox has seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stats {
    /// How often each was asked for: `borealis POST /heroku/resources/…/personal-db-users`.
    pub requests: BTreeMap<String, u64>,
    /// The short-lived authorizations.
    pub grants: GrantStats,
    /// The bastion.
    pub bastion: BastionStats,
    /// Whether PostgreSQL runs.
    pub postgres_running: bool,
    /// The add-ons of ours, by name.
    pub addons: BTreeMap<String, AddonStats>,
}

/// The short-lived authorizations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantStats {
    /// Made since the start.
    pub created: u64,
    /// Removed since the start.
    pub removed: u64,
    /// Made and not removed; that one has expired doesn't count.
    pub outstanding: u64,
}

/// What was done with an add-on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddonStats {
    /// What it is doing.
    pub state: AddonState,
    /// Passwords issued to personal roles, those for "another machine" included.
    pub passwords_issued: u64,
    /// Keys issued to personal SSH users, those for "another machine" included.
    pub keys_issued: u64,
    /// Resets of its users.
    pub resets: u64,
}

// === impl Stats ===

impl Stats {
    /// How often something was asked for, by the end of its name: `POST
    /// /oauth/authorizations`, or `/personal-db-users`.
    pub fn requests_for(&self, end: &str) -> u64 {
        self.requests
            .iter()
            .filter(|(name, _)| name.ends_with(end))
            .map(|(_, count)| count)
            .sum()
    }
}

// === impl Running ===

impl Running {
    pub(super) fn stats(&self) -> Stats {
        let bastion = self.provider.bastion.stats();
        let requests = self.gate.counts();
        let postgres_running = self.provider.postgres.is_running();
        let world = self.provider.world();
        let addons = world
            .addons
            .iter()
            .filter_map(|addon| {
                let borealis = addon.borealis.as_ref()?;
                let stats = AddonStats {
                    state: borealis.state,
                    passwords_issued: borealis.personal_passwords_issued,
                    keys_issued: borealis.personal_keys_issued,
                    resets: borealis.resets,
                };
                Some((addon.name.clone(), stats))
            })
            .collect();
        Stats {
            requests,
            grants: GrantStats {
                created: world.grants.created,
                removed: world.grants.removed,
                outstanding: u64::try_from(world.grants.outstanding()).unwrap_or(u64::MAX),
            },
            bastion,
            postgres_running,
            addons,
        }
    }
}
