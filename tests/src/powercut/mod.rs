//! Power cuts. A story runs on file systems whose every write and flush is recorded by QEMU's driver `blklogwrites`. From
//! the record, the states are made that a disk may have after a power cut: all writes up to a flush, or any of those that
//! were not flushed yet, whole or torn. Each is mounted, judged, and given to the next run of dkms.
//!
//! While a story runs, an unrelated file is synced again and again: the journals are committed between any two steps,
//! while the content of files that was not synced is still in memory.

mod disk;
pub mod faults;
mod judge;
mod log;
mod place;
mod states;
mod story;

pub use disk::{LAYOUTS, Layout};
pub use story::{STORIES, Story};

use crate::random::Random;
use crate::roots::Layer;
use crate::{Kernel, Root, Suite, stage};
use place::Place;

/// What was tried for one story on one layout.
#[derive(Debug, Default)]
pub struct Tally {
    /// The number of recorded writes and flushes.
    pub events: usize,
    /// States that were judged.
    pub states: usize,
    /// Those of them that were booted.
    pub boots: usize,
    /// Those that were right before dkms ran again, as the old or as the new state.
    pub untouched: [usize; 2],
    /// What was wrong, with the state.
    pub bad: Vec<String>,
}

/// A root in the initial state of a story.
fn prepared(story: &Story) -> (Layer, Kernel) {
    let (layer, kernel) = stage::with_small_tree(Suite::trixie());
    let key = format!("{}{}", story::LIBRARY, story.prepare);
    let layer = layer.prepared(&format!("powercut-{}", story.name), &key, |root| {
        root.run(&format!("K={}\n{}\n{}", kernel.release, story::LIBRARY, story.prepare)).ok();
    });
    (layer, kernel)
}

/// How many states are judged.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// States; of a file system that needs a machine of its own, a twentieth.
    pub states: usize,
    /// Those of them with whose modules the kernel is booted.
    pub boots: usize,
}

/// Runs a story on a layout of file systems, and judges states after a power cut.
pub fn run(layout: &Layout, story: &Story, limits: Limits, random: &mut Random) -> Tally {
    let (layer, kernel) = prepared(story);
    let images = disk::Images::make(layout, &layer);
    let (events, known) = record(layout, story, &layer, &kernel, &images);
    let mut tally = Tally { events: events.len(), ..Tally::default() };
    let place = Place::start(layout, &layer, &images.pictures()).restarted();
    let judge = judge::Judge { place: &place, kernel: &kernel, layout, story, known: &known };
    // An emulated processor is slow.
    let count = if layout.module.is_some() { limits.states.div_ceil(20) } else { limits.states };
    let mut maker = states::Maker::new(&images);
    for (number, state) in states::choose(&events, count, random).into_iter().enumerate() {
        let pictures = maker.make(&events, &state);
        tally.states += 1;
        // Those that are booted are at the end of as many equal parts.
        let keep = (number + 1) * limits.boots / count > tally.boots;
        let also = judge::Also { check: number % 10 == 0, doctor: number % 3 == 1, keep };
        let verdict = judge.judge(&pictures, "true", also);
        for (count, is) in tally.untouched.iter_mut().zip(verdict.is) {
            *count += usize::from(is);
        }
        tally.bad.extend(verdict.bad.into_iter().map(|bad| format!("{state}: {bad}")));
        if let Some(kept) = verdict.kept {
            tally.boots += 1;
            let bad = judge::boot(&Root::on(&layer), &kernel, &kept);
            tally.bad.extend(bad.map(|bad| format!("{state}: {bad}")));
        }
    }
    tally
}

/// What a story writes, and what is known of both ends.
fn record(
    layout: &Layout,
    story: &Story,
    layer: &Layer,
    kernel: &Kernel,
    images: &disk::Images,
) -> (Vec<log::Event>, judge::Known) {
    let recorder = disk::Recorder::start(images);
    let place = Place::start(layout, layer, &recorder.files);
    let old = judge::now(&place, kernel);
    place.run(&disk::mount(layout, &place.devices)).ok();
    place.run(&format!("({}) >/dev/null 2>&1 &", story::COMMITS)).ok();
    place.run(&format!("K={}\n{}", kernel.release, story.act)).ok();
    // The end of the story is recorded, too.
    place.run("sleep 1; touch /run/over; sleep 0.3").ok();
    let events = recorder.events();
    let new = judge::now(&place, kernel);
    place.run(disk::UNMOUNT).ok();
    (events, judge::Known { files: [old.0, new.0], doctor: [old.1, new.1] })
}
