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
mod states;
mod story;

pub use disk::{LAYOUTS, Layout};
pub use story::{STORIES, Story};

use crate::random::Random;
use crate::roots::Layer;
use crate::{Kernel, Root, Suite, stage};

/// Makes a root believe that the machine was started again.
const OTHER_BOOT: &str = "echo 00000000-0000-4000-8000-000000000000 >/opt/boot_id && \
     mount --bind /opt/boot_id /proc/sys/kernel/random/boot_id";

/// What was tried for one story on one layout.
#[derive(Debug, Default)]
pub struct Tally {
    /// The number of recorded writes and flushes.
    pub events: usize,
    /// States that were judged.
    pub states: usize,
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

/// Runs a story on a layout of file systems, and judges up to `limit` states after a power cut.
pub fn run(layout: &Layout, story: &Story, limit: usize, random: &mut Random) -> Tally {
    let (layer, kernel) = prepared(story);
    let images = disk::Images::make(layout, &Root::on(&layer));
    let (events, known) = {
        let root = Root::on(&layer);
        let disks = disk::Recorder::start(&images);
        let old = judge::modules(&root, &kernel);
        disks.mount(layout, &root);
        root.start(story::COMMITS);
        root.run(&format!("K={}\n{}", kernel.release, story.act)).ok();
        // The end of the story is recorded, too.
        root.run("sleep 1; touch /run/over; sleep 0.3").ok();
        let events = disks.events();
        let new = judge::modules(&root, &kernel);
        images.unmount(&root);
        (events, [old, new])
    };
    let mut tally = Tally { events: events.len(), ..Tally::default() };
    let root = Root::on(&layer);
    root.run(OTHER_BOOT).ok();
    let judge = judge::Judge { root: &root, kernel: &kernel, layout, story, known: &known };
    let mut maker = states::Maker::new(&images);
    for (number, state) in states::choose(&events, limit, random).into_iter().enumerate() {
        let pictures = maker.make(&events, &state);
        tally.states += 1;
        let verdict = judge.judge(&pictures, number % 10 == 0);
        for (count, is) in tally.untouched.iter_mut().zip(verdict.is) {
            *count += usize::from(is);
        }
        tally.bad.extend(verdict.bad.into_iter().map(|bad| format!("{state}: {bad}")));
    }
    tally
}
