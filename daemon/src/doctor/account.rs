//! The Heroku account: the token, its age, and whether the API takes it.

use std::time::Instant;

use super::{Doctor, Report};
use crate::{credential::LookupResult, platform::clock};

/// A token lives a year (some interactive logins' 30 days). A month before, it is time.
const OLD_DAYS: i64 = 335;

// === impl Doctor ===

impl Doctor {
    pub(super) async fn token(&self, report: &Report) {
        let places = self.broker.survey_tokens().await;
        for place in &places {
            if let Some(problem) = &place.problem {
                report.warn("token-place", problem.clone(), "").await;
            }
        }
        let mut found = places.iter().filter(|place| place.token.is_some());
        let Some(winner) = found.next() else {
            let hint = "run `borealisctl login`, or `heroku login`";
            let looked: Vec<_> = places.iter().map(|place| place.place.as_str()).collect();
            let sentence = format!("no Heroku API token was found in: {}", looked.join(", "));
            return report.fail("token", sentence, hint).await;
        };
        let mut sentence = format!("from {}", winner.place);
        let days = winner.age_in_days();
        if let Some(days) = days.filter(|days| *days > 0) {
            sentence.push_str(&format!(", there for {days} days"));
        }
        let shadowed: Vec<_> = found.map(|place| place.place.as_str()).collect();
        if !shadowed.is_empty() {
            sentence.push_str(&format!("; not used: {}", shadowed.join(", ")));
        }
        if days.is_some_and(|days| days >= OLD_DAYS) {
            sentence.push_str("; tokens live a year at most");
            let hint = "sign in again with `borealisctl login` or `heroku login`";
            return report.warn("token", sentence, hint).await;
        }
        report.ok("token", sentence).await;
    }

    pub(super) async fn heroku(&self, report: &Report) {
        let began = Instant::now();
        match self.broker.account().await {
            Ok((account, _)) => {
                let found = format!(
                    "knows the token as {}, and answered in {} ms",
                    account.email,
                    began.elapsed().as_millis()
                );
                report.ok("heroku-api", found).await;
            }
            Err(cause) => report.fail_for("heroku-api", &cause).await,
        }
    }
}

// === impl LookupResult ===

impl LookupResult {
    fn age_in_days(&self) -> Option<i64> {
        let age = clock::timestamp().duration_since(self.since?);
        Some(age.as_hours() / 24)
    }
}
