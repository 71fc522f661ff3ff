//! The order of work. Pure: it knows neither modules nor processes, so that tests can simulate schedules.

use std::collections::BTreeSet;

/// One unit of work. Nodes refer to each other by index.
#[derive(Debug, Clone, Default)]
pub struct Node {
    /// Nodes that must be over before, successful or not.
    pub after: BTreeSet<usize>,
    /// Estimated seconds of work that takes a job; `None` for light work, which is done at once without a job.
    pub seconds: Option<f64>,
    /// Nodes of the same group never run at the same time.
    pub group: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    Over,
}

/// Returns nodes as they become possible; the one with the longest remaining chain first.
#[derive(Debug)]
pub struct Queue {
    items: Vec<Node>,
    states: Vec<State>,
    /// Seconds from the start of a node to the end of the last one that waits for it.
    ways: Vec<f64>,
}

impl Queue {
    /// Nodes must not wait for each other in a circle; those that do never become possible.
    pub fn new(items: Vec<Node>) -> Self {
        let mut ways: Vec<f64> = items.iter().map(|item| item.seconds.unwrap_or(0.0)).collect();
        // One pass per link of the longest chain; chains are short.
        for _ in 0..items.len() {
            let mut changed = false;
            for (index, item) in items.iter().enumerate() {
                for before in &item.after {
                    let own = items.get(*before).and_then(|item| item.seconds).unwrap_or(0.0);
                    if ways[*before] < own + ways[index] {
                        ways[*before] = own + ways[index];
                        changed = true;
                    }
                }
            }
            if !changed {
                break;
            }
        }
        Self { states: vec![State::Waiting; items.len()], items, ways }
    }

    /// The next light node, in the order of the plan.
    pub fn light(&self) -> Option<usize> {
        (0..self.items.len()).find(|index| self.items[*index].seconds.is_none() && self.possible(*index))
    }

    /// The next node that takes a job.
    pub fn heavy(&self) -> Option<usize> {
        (0..self.items.len())
            .filter(|index| self.items[*index].seconds.is_some() && self.possible(*index))
            .min_by(|a, b| self.ways[*b].total_cmp(&self.ways[*a]).then(a.cmp(b)))
    }

    fn possible(&self, index: usize) -> bool {
        let item = &self.items[index];
        let free = |group: usize| {
            !(0..self.items.len())
                .any(|other| self.states[other] == State::Running && self.items[other].group == Some(group))
        };
        self.states[index] == State::Waiting
            && item.after.iter().all(|before| self.states.get(*before) == Some(&State::Over))
            && item.group.is_none_or(free)
    }

    /// Marks a node as running.
    pub fn started(&mut self, index: usize) {
        self.states[index] = State::Running;
    }

    /// Marks a node as over, successful or not.
    pub fn over(&mut self, index: usize) {
        self.states[index] = State::Over;
    }

    /// How many nodes are running.
    pub fn running(&self) -> usize {
        self.states.iter().filter(|state| **state == State::Running).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heavy(seconds: f64, after: &[usize]) -> Node {
        Node { after: after.iter().copied().collect(), seconds: Some(seconds), group: None }
    }

    #[test]
    fn the_longest_way_goes_first() {
        // 2 is short, but 3 waits for it.
        let mut queue = Queue::new(vec![heavy(5.0, &[]), heavy(3.0, &[]), heavy(1.0, &[]), heavy(9.0, &[2])]);
        let mut order = Vec::new();
        while let Some(next) = queue.heavy() {
            order.push(next);
            queue.started(next);
            queue.over(next);
        }
        assert_eq!(order, [2, 3, 0, 1]);
    }

    #[test]
    fn nothing_starts_before_what_it_needs_is_over() {
        let mut queue = Queue::new(vec![heavy(1.0, &[]), heavy(1.0, &[0])]);
        queue.started(0);
        assert_eq!(queue.heavy(), None);
        queue.over(0);
        assert_eq!(queue.heavy(), Some(1));
    }

    #[test]
    fn a_group_has_one_job() {
        let grouped = |seconds| Node { group: Some(7), ..heavy(seconds, &[]) };
        let mut queue = Queue::new(vec![grouped(2.0), grouped(3.0), heavy(1.0, &[])]);
        queue.started(1);
        assert_eq!(queue.heavy(), Some(2));
        queue.over(1);
        assert_eq!(queue.heavy(), Some(0));
    }

    #[test]
    fn light_items_need_no_job() {
        let light = Node { after: BTreeSet::from([1]), ..Node::default() };
        let mut queue = Queue::new(vec![light, heavy(1.0, &[])]);
        assert_eq!((queue.light(), queue.heavy()), (None, Some(1)));
        queue.over(1);
        assert_eq!((queue.light(), queue.heavy()), (Some(0), None));
    }

    /// One module of a simulated schedule: seconds of work on one processor, and seconds of work that is divided among
    /// any number of processors.
    type Phases = (f64, f64);

    /// Real modules of Debian 13 on its kernel, as `make bench` recorded them with one processor and with two (recorded.txt).
    const RECORDED: [Phases; 21] = [
        (1.56, 0.23),
        (1.29, 0.67),
        (3.47, 1.24),
        (0.78, 5.61),
        (1.68, 1.66),
        (1.74, 0.03),
        (2.51, 6.80),
        (2.43, 5.46),
        (21.93, 0.00),
        (1.49, 0.46),
        (1.07, 0.61),
        (1.99, 0.93),
        (1.45, 0.75),
        (1.77, 3.26),
        (2.21, 12.02),
        (2.02, 1.53),
        (1.59, 2.38),
        (2.41, 0.32),
        (2.03, 0.00),
        (1.30, 0.39),
        (1.70, 2.89),
    ];

    /// Simulates the schedule on `jobs` processors in steps of 10 ms. Returns their utilisation until the last module
    /// started. Tokens are distributed as make does: every running module has one, and spare ones go to modules that
    /// can use them.
    fn utilisation(jobs: usize, modules: &[Phases]) -> f64 {
        let items = modules.iter().map(|(serial, shared)| heavy(serial + shared, &[])).collect();
        let mut queue = Queue::new(items);
        let mut left: Vec<Phases> = modules.to_vec();
        let mut running: Vec<usize> = Vec::new();
        let (step, mut busy, mut steps) = (0.01, 0.0, 0.0);
        loop {
            while running.len() < jobs {
                let Some(next) = queue.heavy() else { break };
                queue.started(next);
                running.push(next);
            }
            if queue.heavy().is_none() {
                return busy / (steps * jobs as f64);
            }
            let mut spare = jobs - running.len();
            for index in running.clone() {
                let (serial, shared) = &mut left[index];
                if *serial > 0.0 {
                    *serial -= step;
                    busy += 1.0;
                } else {
                    let workers = 1 + std::mem::take(&mut spare);
                    *shared -= step * workers as f64;
                    busy += workers as f64;
                }
                if *serial <= 0.0 && *shared <= 0.0 {
                    running.retain(|other| *other != index);
                    queue.over(index);
                }
            }
            steps += 1.0;
        }
    }

    #[test]
    fn processors_are_busy_until_the_last_module_starts() {
        for jobs in [1, 2, 4, 8] {
            let busy = utilisation(jobs, &RECORDED);
            assert!(busy >= 0.9, "{jobs} jobs: {busy:.2}");
        }
    }
}
