//! A token, and what was found at the places where one may be.

use jiff::Timestamp;
use secrecy::SecretString;

/// The user's own Heroku token.
#[derive(Debug, Clone)]
pub struct Token {
    /// Goes to the Heroku API only.
    pub value: SecretString,
    /// Where it was found, for people.
    pub source: String,
}

/// What a place was found to hold.
#[derive(Debug, Clone)]
pub struct LookupResult {
    /// The place, for people.
    pub place: String,
    /// The token, where it has one.
    pub token: Option<Token>,
    /// Since when it has been there, where that is known.
    pub since: Option<Timestamp>,
    /// What is wrong there, where something is; a token may have been found all the same.
    pub problem: Option<String>,
}
