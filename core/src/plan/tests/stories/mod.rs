//! Decisions, story by story. Each row: a world, events, the plan.

mod building;
mod dependencies;
mod packaged;
mod proof;
mod registry;
mod repair;

use super::notation::{events, show};
use super::world::World;

/// World, events, plan.
type Row<'a> = (&'a str, &'a str, &'a str);

/// Checks all rows and prints every unexpected one.
fn check(rows: &[Row<'_>]) {
    let mut wrong = String::new();
    for (world, happens, expected) in rows {
        let plan = show(&World::new(world).plan(&events(happens)));
        if plan != *expected {
            wrong += &format!(
                "\n  world    {world}\n  events   {happens}\n  expected {expected}\n  planned  {plan}\n"
            );
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Checks events in order, each in the world that results from the plan before.
fn story(world: &str, steps: &[(&str, &str)]) {
    let mut world = World::new(world);
    for (happens, expected) in steps {
        let plan = world.plan(&events(happens));
        assert_eq!(show(&plan), *expected, "{happens}");
        world.apply(&plan);
    }
}
