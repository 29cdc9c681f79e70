//! Circles among files that use each other.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::{Path, PathBuf},
};

use super::source::Edges;

/// A shortest circle through each file that is in one, with the names that lead on, but for those
/// through files of another one: they are seen once that is mended.
pub(crate) fn all(edges: &Edges) -> Vec<String> {
    let mut told = BTreeSet::new();
    let mut circles = Vec::new();
    for start in edges.keys() {
        let Some(circle) = shortest(edges, start) else {
            continue;
        };
        if circle.iter().all(|file| !told.contains(file)) {
            told.extend(circle.iter().cloned());
            circles.push(describe(edges, &circle));
        }
    }
    circles
}

/// The shortest way from a file back to it, without that file at the end.
fn shortest(edges: &Edges, start: &Path) -> Option<Vec<PathBuf>> {
    let mut came_from: BTreeMap<&Path, &Path> = BTreeMap::new();
    let mut next = VecDeque::from([start]);
    while let Some(file) = next.pop_front() {
        for used in edges.get(file).into_iter().flat_map(BTreeMap::keys) {
            if used == start {
                let mut way = vec![file.to_owned()];
                let mut at = file;
                while at != start {
                    at = came_from[at];
                    way.push(at.to_owned());
                }
                way.reverse();
                return Some(way);
            }
            if !came_from.contains_key(used.as_path()) {
                came_from.insert(used, file);
                next.push_back(used);
            }
        }
    }
    None
}

fn describe(edges: &Edges, circle: &[PathBuf]) -> String {
    let following = circle.iter().cycle().skip(1);
    let steps = circle.iter().zip(following).map(|(file, next)| {
        let names: Vec<_> = edges[file][next].iter().map(String::as_str).collect();
        format!(
            "{} uses {} of {}",
            file.display(),
            names.join(", "),
            next.display()
        )
    });
    steps.collect::<Vec<_>>().join("\n")
}
