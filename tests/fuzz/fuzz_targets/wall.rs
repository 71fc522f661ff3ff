//! Whatever the sandboxed dkms sends: it is refused, or every name in it is one that root may join to a path.
#![no_main]

use dkms_core::conf::evaluate::Question;
use dkms_core::event::Event;
use dkms_core::preflight::Found;
use dkms_core::sys::inside::Message;
use dkms_core::types::{ModuleId, Target, is_plain};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    // The length that comes first is bounded before anything is read.
    let Ok(message) = Message::read(data) else { return };
    let content = match message {
        Message::Ask(_, content) | Message::Found(content) => content,
        Message::Failed(_) => return,
    };
    if let Ok(question) = serde_json::from_value::<Question>(content.clone()) {
        let inputs = question.inputs();
        assert!(inputs.files.iter().map(|(_, text)| text.len()).sum::<usize>() <= data.len());
    }
    found(content);
});

fn found(content: Value) {
    let Ok(found) = serde_json::from_value::<Found>(content) else { return };
    let (events, survey) = found.into_parts();
    for event in events {
        match event {
            Event::KernelIncoming(target) => target_is_safe(&target),
            Event::SourceIncoming { module, targets } => {
                module_is_safe(&module);
                targets.iter().for_each(target_is_safe);
            }
            other => panic!("{other} is nothing that comes"),
        }
    }
    survey.kernels.keys().for_each(target_is_safe);
    survey.sources.keys().for_each(module_is_safe);
    for (placement, case) in &survey.cases {
        module_is_safe(&placement.module);
        target_is_safe(&placement.target);
        let Ok(recipe) = &case.recipe else { continue };
        for module in &recipe.modules {
            component_is_safe(&module.dest_name);
            assert!(module.dest_location.starts_with('/'));
            for path in [&module.built, module.dest_location.trim_start_matches('/')] {
                assert!(path.split('/').all(|part| part != ".." && part.bytes().all(is_plain)), "{path}");
            }
        }
    }
}

fn module_is_safe(module: &ModuleId) {
    component_is_safe(module.name.as_str());
    component_is_safe(module.version.as_str());
}

fn target_is_safe(target: &Target) {
    component_is_safe(target.kernel.as_str());
    component_is_safe(target.arch.as_str());
}

fn component_is_safe(name: &str) {
    assert!(!name.is_empty() && !name.starts_with(['.', '-']) && !name.contains(".."), "{name:?}");
    assert!(name.bytes().all(is_plain), "{name:?}");
}
