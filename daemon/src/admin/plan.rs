//! In which order extensions are installed, learned from refusals: the provider names what
//! an extension depends on only when it refuses to install it. Pure decisions; whoever asks
//! makes the calls and says how they went.

use std::collections::{BTreeMap, VecDeque};

/// More than any extension has ever needed: an API that names new ones for ever is stopped.
const MOST: usize = 64;

/// A walk through the dependencies, deepest first.
#[derive(Debug)]
pub(super) struct Plan {
    /// From what was asked for to what is tried now. None of them comes twice.
    path: Vec<Wanted>,
    there: BTreeMap<String, Origin>,
}

#[derive(Debug)]
struct Wanted {
    name: String,
    /// Named as missing and not yet tried.
    missing: VecDeque<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Installed,
    Before,
}

/// Why no order works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stuck {
    /// There already, or a schema of its name is.
    Exists(String),
    /// Each needs another of them first.
    Cycle(Vec<String>),
}

// === impl Plan ===

impl Plan {
    pub(super) fn new(extension: &str) -> Self {
        Self {
            path: vec![Wanted::new(extension.to_owned())],
            there: BTreeMap::new(),
        }
    }

    /// What to try now; `None` when all is done.
    pub(super) fn next(&self) -> Option<&str> {
        self.path.last().map(|wanted| wanted.name.as_str())
    }

    /// What was tried is installed now.
    pub(super) fn installed(&mut self) {
        self.done(Origin::Installed);
    }

    /// What was tried was there already, which is as good unless it is what was asked for.
    pub(super) fn exists(&mut self) -> Result<(), Stuck> {
        if let [only] = self.path.as_slice() {
            return Err(Stuck::Exists(only.name.clone()));
        }
        self.done(Origin::Before);
        Ok(())
    }

    /// What was tried needs these first.
    pub(super) fn needs(&mut self, dependencies: &[String]) -> Result<(), Stuck> {
        let missing: VecDeque<_> = dependencies
            .iter()
            .filter(|name| !self.there.contains_key(*name) && !self.is_on_path(name))
            .cloned()
            .collect();
        if missing.is_empty() || self.there.len() + self.path.len() >= MOST {
            return Err(self.stuck(dependencies));
        }
        if let Some(wanted) = self.path.last_mut() {
            wanted.missing = missing;
        }
        self.descend();
        Ok(())
    }

    fn done(&mut self, origin: Origin) {
        if let Some(wanted) = self.path.pop() {
            self.there.insert(wanted.name, origin);
        }
        self.descend();
    }

    /// To the next dependency that is missing, or to another try of the one that missed them.
    fn descend(&mut self) {
        while let Some(name) = self
            .path
            .last_mut()
            .and_then(|wanted| wanted.missing.pop_front())
        {
            if !self.there.contains_key(&name) && !self.is_on_path(&name) {
                self.path.push(Wanted::new(name));
                return;
            }
        }
    }

    fn is_on_path(&self, name: &str) -> bool {
        self.path.iter().any(|wanted| wanted.name == name)
    }

    fn stuck(&self, dependencies: &[String]) -> Stuck {
        let before = |name: &&String| self.there.get(*name) == Some(&Origin::Before);
        if let Some(name) = dependencies.iter().find(before) {
            return Stuck::Exists(name.clone());
        }
        let first = self
            .path
            .iter()
            .position(|wanted| dependencies.contains(&wanted.name));
        let cycle = &self.path[first.unwrap_or(0)..];
        Stuck::Cycle(cycle.iter().map(|wanted| wanted.name.clone()).collect())
    }
}

// === impl Wanted ===

impl Wanted {
    fn new(name: String) -> Self {
        Self {
            name,
            missing: VecDeque::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// A provider: who needs whom, and what is installed.
    #[derive(Debug)]
    struct World {
        needs: Vec<Vec<usize>>,
        installed: BTreeSet<usize>,
        /// Names one missing dependency at a time.
        terse: bool,
    }

    fn names(numbers: &[usize]) -> Vec<String> {
        numbers.iter().map(ToString::to_string).collect()
    }

    impl World {
        fn missing(&self, extension: usize) -> Vec<usize> {
            let missing = self.needs[extension]
                .iter()
                .copied()
                .filter(|needed| !self.installed.contains(needed));
            missing
                .take(if self.terse { 1 } else { usize::MAX })
                .collect()
        }

        /// Plays a plan to its end; what was installed, in order, and how it ended.
        fn play(&mut self, root: usize) -> (Vec<usize>, Result<(), Stuck>) {
            let mut plan = Plan::new(&root.to_string());
            let mut order = Vec::new();
            let mut calls = 0;
            while let Some(name) = plan.next() {
                calls += 1;
                assert!(calls < 1000, "endless");
                let name: usize = name.parse().unwrap();
                let missing = self.missing(name);
                let step = if self.installed.contains(&name) {
                    plan.exists()
                } else if missing.is_empty() {
                    self.installed.insert(name);
                    order.push(name);
                    plan.installed();
                    Ok(())
                } else {
                    plan.needs(&names(&missing))
                };
                if let Err(stuck) = step {
                    return (order, Err(stuck));
                }
            }
            (order, Ok(()))
        }

        /// All that must be installed for `root`, and whether an order exists.
        fn expected(&self, root: usize) -> (BTreeSet<usize>, bool) {
            let mut wanted = BTreeSet::from([root]);
            let mut todo = vec![root];
            while let Some(next) = todo.pop() {
                for &needed in &self.needs[next] {
                    if !self.installed.contains(&needed) && wanted.insert(needed) {
                        todo.push(needed);
                    }
                }
            }
            let mut there = self.installed.clone();
            loop {
                let ready: Vec<_> = wanted
                    .iter()
                    .filter(|&&w| {
                        !there.contains(&w) && self.needs[w].iter().all(|n| there.contains(n))
                    })
                    .copied()
                    .collect();
                if ready.is_empty() {
                    let has_order = wanted.iter().all(|w| there.contains(w));
                    return (wanted, has_order);
                }
                there.extend(ready);
            }
        }
    }

    fn worlds() -> impl Strategy<Value = World> {
        (1_usize..9).prop_flat_map(|size| {
            let needs = proptest::collection::vec(proptest::collection::vec(0..size, 0..3), size);
            let installed = proptest::collection::btree_set(1..size + 1, 0..3);
            (needs, installed, any::<bool>()).prop_map(|(needs, installed, terse)| World {
                needs,
                installed: installed.into_iter().filter(|n| *n < 9).collect(),
                terse,
            })
        })
    }

    proptest! {
        #[test]
        fn everything_needed_is_installed_in_order_wherever_there_is_one(mut world in worlds()) {
            let (wanted, has_order) = world.expected(0);
            let before = world.installed.clone();
            let needs = world.needs.clone();
            let (order, outcome) = world.play(0);
            let mut there = before;
            for extension in &order {
                prop_assert!(needs[*extension].iter().all(|needed| there.contains(needed)));
                prop_assert!(wanted.contains(extension), "not asked for");
                prop_assert!(there.insert(*extension), "twice");
            }
            match outcome {
                Ok(()) => {
                    prop_assert!(has_order);
                    prop_assert_eq!(order.len(), wanted.len());
                }
                Err(Stuck::Cycle(cycle)) => {
                    prop_assert!(!has_order);
                    let cycle: Vec<usize> = cycle.iter().map(|n| n.parse().unwrap()).collect();
                    for member in &cycle {
                        prop_assert!(needs[*member].iter().any(|n| cycle.contains(n)));
                    }
                }
                Err(Stuck::Exists(name)) => prop_assert!(false, "{} is not there", name),
            }
        }
    }

    #[test]
    fn what_was_asked_for_may_not_be_there_already() {
        let mut plan = Plan::new("a");
        assert_eq!(plan.exists(), Err(Stuck::Exists("a".into())));
    }

    #[test]
    fn a_schema_in_the_way_of_a_dependency_ends_it() {
        let needed = ["b".to_owned()];
        let mut plan = Plan::new("a");
        plan.needs(&needed).unwrap();
        assert_eq!(plan.next(), Some("b"));
        plan.exists().unwrap();
        assert_eq!(plan.next(), Some("a"));
        assert_eq!(plan.needs(&needed), Err(Stuck::Exists("b".into())));
    }

    #[test]
    fn an_api_that_contradicts_itself_is_not_believed_for_ever() {
        let mut plan = Plan::new("a");
        plan.needs(&["b".to_owned()]).unwrap();
        plan.installed();
        assert_eq!(
            plan.needs(&["b".to_owned()]),
            Err(Stuck::Cycle(vec!["a".into()]))
        );
        let mut plan = Plan::new("0");
        let refusals = (1..).take_while(|n: &u32| plan.needs(&[n.to_string()]).is_ok());
        assert!(refusals.count() < 100);
    }
}
