//! The states that a disk may have after a power cut.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::disk::{self, Images};
use super::log::{Event, Kind};
use crate::random::Random;

const SECTOR: usize = 512;

/// A state: what had been asked when the power was cut, and what of it is lost.
#[derive(Debug, Clone)]
pub struct State {
    /// The number of events before the power cut.
    pub until: usize,
    /// Of 8 writes that were not flushed, how many are lost; and the seed that decides which.
    loss: Option<(u64, u64)>,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.loss {
            None => write!(f, "after event {}", self.until),
            Some((eighths, seed)) => write!(f, "after event {}, {eighths}/8 lost (seed {seed})", self.until),
        }
    }
}

/// States in the order of time: each flush, and as many random losses; at most `limit` of both together.
pub fn choose(events: &[Event], limit: usize, random: &mut Random) -> Vec<State> {
    let flushes = events.iter().enumerate().filter(|(_, event)| event.kind == Kind::Flush);
    let mut all: Vec<State> = flushes.map(|(index, _)| State { until: index, loss: None }).collect();
    all.push(State { until: events.len(), loss: None });
    // Of too many, as many are left out between any two.
    let half = limit.div_ceil(2).min(all.len());
    let mut chosen: Vec<State> = (0..half).map(|n| all[(n + 1) * all.len() / half - 1].clone()).collect();
    while chosen.len() < limit {
        let until = random.below(events.len() as u64 + 1) as usize;
        let eighths = [1, 4, 7, 8][random.below(4) as usize];
        chosen.push(State { until, loss: Some((eighths, random.below(1 << 32))) });
    }
    chosen.sort_by_key(|state| state.until);
    chosen
}

/// Makes the images of states, in the order of time.
#[derive(Debug)]
pub struct Maker {
    /// Images with everything that had been flushed at an earlier state.
    flushed: Vec<PathBuf>,
    /// The number of events of each volume that are in them.
    done: Vec<usize>,
}

impl Maker {
    /// Begins with the initial state.
    pub fn new(images: &Images) -> Self {
        Self { flushed: images.files.clone(), done: vec![0; images.files.len()] }
    }

    /// The images of a state.
    pub fn make(&mut self, events: &[Event], state: &State) -> Vec<PathBuf> {
        let mut random = Random::new(state.loss.map_or(1, |(_, seed)| seed));
        let mut pictures = Vec::new();
        for volume in 0..self.flushed.len() {
            let past = &events[..state.until];
            let last = past.iter().rposition(|event| event.volume == volume && event.kind == Kind::Flush);
            let safe = last.unwrap_or(0).max(self.done[volume]);
            let of = |events: std::ops::Range<usize>| {
                past[events].iter().filter(move |event| event.volume == volume).filter_map(|event| {
                    if let Kind::Write(offset, content) = &event.kind {
                        Some((*offset, content))
                    } else {
                        None
                    }
                })
            };
            let flushed = open(&self.flushed[volume]);
            for (offset, content) in of(self.done[volume]..safe) {
                flushed.write_all_at(content, offset).unwrap();
            }
            self.done[volume] = safe;
            pictures.push(disk::copy(&self.flushed[volume]));
            let picture = open(&pictures[volume]);
            for (offset, content) in of(safe..state.until) {
                let lost = state.loss.map_or(0, |(eighths, _)| eighths);
                if random.below(8) >= lost {
                    picture.write_all_at(content, offset).unwrap();
                } else if random.below(8) == 0 {
                    // Torn: a disk writes whole sectors, in any order.
                    for (number, sector) in content.chunks(SECTOR).enumerate() {
                        if random.below(2) == 0 {
                            picture.write_all_at(sector, offset + (number * SECTOR) as u64).unwrap();
                        }
                    }
                }
            }
        }
        pictures
    }
}

fn open(path: &PathBuf) -> File {
    OpenOptions::new().write(true).open(path).unwrap()
}
