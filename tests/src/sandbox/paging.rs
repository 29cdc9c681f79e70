//! Heroku's way of giving out long lists in pages.

use axum::{
    Json,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse as _, Response},
};
use serde_json::Value;

/// As many as Heroku puts on a page where the client doesn't say.
pub(crate) const USUAL_LENGTH: usize = 200;

/// One page of a list that is ordered by id: `Range: id ]<after>..; max=<n>` asks for it,
/// `Next-Range` tells how to ask for the next.
pub(crate) fn page(headers: &HeaderMap, mut list: Vec<Value>, most: usize) -> Response {
    let id = |value: &Value| value["id"].as_str().unwrap_or_default().to_owned();
    list.sort_by_key(id);
    let range = headers
        .get(header::RANGE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let (start, most) = parse_range(range, most);
    let rest: Vec<Value> = list
        .into_iter()
        .filter(|value| match start {
            Some(Start::After(first)) => id(value).as_str() > first,
            Some(Start::From(first)) => id(value).as_str() >= first,
            None => true,
        })
        .collect();
    let more = rest.len() > most;
    let shown: Vec<Value> = rest.into_iter().take(most).collect();
    let (first, last) = (shown.first().map(id), shown.last().map(id));
    let status = if more {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    let mut response = (status, Json(shown)).into_response();
    if let (true, Some(first), Some(last)) = (more, first, last) {
        let headers = response.headers_mut();
        let next = format!("id ]{last}..; max={most}");
        for (name, value) in [
            ("content-range", format!("id {first}..{last}")),
            ("next-range", next),
        ] {
            if let Ok(value) = value.try_into() {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
    response
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start<'a> {
    After(&'a str),
    From(&'a str),
}

fn parse_range(range: &str, most: usize) -> (Option<Start<'_>>, usize) {
    let (ids, options) = range.split_once(';').unwrap_or((range, ""));
    let start = ids
        .trim()
        .strip_prefix("id ")
        .and_then(|ids| ids.split_once(".."))
        .and_then(|(start, _)| match start.strip_prefix(']') {
            Some(after) => Some(Start::After(after)),
            None if start.is_empty() => None,
            None => Some(Start::From(start)),
        });
    let asked = options
        .split([',', ';'])
        .find_map(|option| option.trim().strip_prefix("max=")?.parse::<usize>().ok());
    (start, asked.map_or(most, |asked| asked.clamp(1, most)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(parse_range("", 200), (None, 200));
        assert_eq!(parse_range("id ..; max=10", 200), (None, 10));
        assert_eq!(
            parse_range("id ]abc..; max=10", 5),
            (Some(Start::After("abc")), 5)
        );
        assert_eq!(
            parse_range("id abc..def; order=asc, max=7", 200),
            (Some(Start::From("abc")), 7)
        );
        assert_eq!(parse_range("id ..; max=0", 200), (None, 1));
    }
}
