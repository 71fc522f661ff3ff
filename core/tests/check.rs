//! `dkms check` on temporary trees: the files that it checks, and its exit codes. Signatures are tested in the sources
//! of
//! `kernel/signature`, and with a real kernel in the crate `tests`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)] // a test makes files and stops at the first surprise

mod support;

use support::Root;

fn tree() -> Root {
    Root::new(
        r#"src/gone-1/dkms.conf
        lib/gone/1/source -> $ROOT/src/gone-1
        lib/gone/1/6.1.0-9-amd64/x86_64/module/gone.ko
        lib/gone/kernel-6.1.0-9-amd64-x86_64 -> 1/6.1.0-9-amd64/x86_64
        lib/.dkms-rs/records/gone/1/6.1.0-9-amd64/x86_64.json = {"fingerprint": "f", "installed": [{"path": "$ROOT/modules/6.1.0-9-amd64/updates/gone.ko", "sha256": ""}]}
        src/built-1/dkms.conf
        lib/built/1/source -> $ROOT/src/built-1
        lib/built/1/6.1.0-9-amd64/x86_64/module/built.ko
        src/text-1/dkms.conf
        lib/text/1/source -> $ROOT/src/text-1
        lib/text/1/6.1.0-9-amd64/x86_64/module/text.ko
        lib/text/kernel-6.1.0-9-amd64-x86_64 -> 1/6.1.0-9-amd64/x86_64
        lib/.dkms-rs/records/text/1/6.1.0-9-amd64/x86_64.json = {"fingerprint": "f", "installed": [{"path": "$ROOT/modules/6.1.0-9-amd64/updates/text.ko", "sha256": ""}]}
        modules/6.1.0-9-amd64/updates/text.ko = no module at all"#,
    )
}

#[test]
fn installed_modules_are_looked_at_and_others_are_not() {
    let root = tree();
    let run = root.dkms(&["check", "--secure-boot", "on"]);
    assert_eq!(run.code, 1);
    let lines: Vec<&str> = run.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{}", run.stdout);
    assert_eq!(lines[2], "2 would be rejected");
    assert_eq!(lines[0], "gone/1, 6.1.0-9-amd64, x86_64, gone.ko: would be rejected: file not found");
    assert!(
        lines[1].starts_with("text/1, 6.1.0-9-amd64, x86_64, text.ko: would be rejected: not an ELF file")
    );
    assert!(lines[1].contains("; unsigned; Secure Boot is enabled"), "{}", lines[1]);
}

#[test]
fn the_answer_in_json() {
    let root = tree();
    let run = root.dkms(&["check", "gone", "--json"]);
    assert_eq!(run.code, 1);
    support::schemas::valid("check", &run.stdout);
    insta::assert_snapshot!(run.stdout, @r#"
    {
      "format": 2,
      "modules": [
        {
          "module": {
            "name": "gone",
            "version": "1"
          },
          "kernel": "6.1.0-9-amd64",
          "arch": "x86_64",
          "file": "$ROOT/modules/6.1.0-9-amd64/updates/gone.ko",
          "verdict": "refused",
          "cause": "file",
          "reasons": [
            "file not found"
          ],
          "notes": []
        }
      ]
    }
    "#);
}

#[test]
fn questions_without_an_answer() {
    let root = tree();
    let nothing = root.dkms(&["check", "built"]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (0, "dkms: no matching module is installed\n"));
    let unknown = root.dkms(&["check", "unheard-of"]);
    assert_eq!(unknown.code, 3);
    assert!(unknown.stderr.contains("unheard-of is not in the DKMS tree"), "{}", unknown.stderr);
    let no_certificate = root.join("modules/6.1.0-9-amd64/updates/text.ko");
    let broken = root.dkms(&["check", "--enrolled", no_certificate.to_str().unwrap()]);
    assert_eq!(broken.code, 1);
    assert!(broken.stderr.contains("text.ko: not an X.509 certificate"), "{}", broken.stderr);
    let file = root.dkms(&["check", no_certificate.to_str().unwrap(), "-k", "6.1.0-9-amd64"]);
    assert_eq!(file.code, 1);
    assert!(file.stdout.contains("not an ELF file"), "{}", file.stdout);
}
