//! A module in use does not build for the newest kernel: the kernel that has it remains the boot default, in the menu
//! that GRUB really reads, or in systemd-boot's loader.conf, until the newest has it, too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)] // tests stop at the first surprise

use dkms_tests::count::Counters;
use dkms_tests::kernels::Flavour;
use dkms_tests::modules::Sources;
use dkms_tests::roots::Layer;
use dkms_tests::{Kernel, Output, Root, Suite, stage};

const DROP_IN: &str = "/etc/default/grub.d/zz-dkms.cfg";
const STATE: &str = "/var/lib/dkms/.dkms-rs/boot-default.json";

/// The driver of the only display.
const DRIVER: &str = "picky";

/// A machine whose display uses that driver, as shown by its /sys.
const SYS: &str = "mkdir -p /opt/sys && cd /opt/sys && device=devices/pci0000:00/0000:01:00.0
mkdir -p $device/drm/card0 class/drm bus/pci/drivers/picky module/picky
ln -s ../../$device/drm/card0 class/drm/card0
ln -s ../../../bus/pci/drivers/picky $device/driver
ln -s ../../../../module/picky bus/pci/drivers/picky/module";

/// The real grub-probe, except for files on the root: here that is an overlay, which no boot loader can read. It is
/// treated like /boot.
const PROBE: &str = r#"#!/bin/sh
n=$#
for arg; do
    shift
    n=$((n - 1))
    case $n$arg in 0/boot* | 0/dev/*) ;; 0/*) arg=/boot ;; esac
    set -- "$@" "$arg"
done
exec /usr/sbin/grub-probe.real "$@"
"#;

/// Puts /boot on its own block device. 10_linux creates no entries for /dev/loop0 to 9, which live CDs use.
const BOOT: &str = "truncate -s 700M /opt/boot.img && mkfs.ext4 -q /opt/boot.img
for n in $(seq 10 99); do losetup /dev/loop$n /opt/boot.img 2>/dev/null && break; done
mount /dev/loop$n /mnt && cp -a /boot/. /mnt/ && umount /mnt && mount /dev/loop$n /boot && losetup -d /dev/loop$n &&
mkdir -p /boot/grub && update-grub";

/// The driver compiles for the first kernel, and not for the second.
fn sources() -> Vec<(String, String)> {
    let mut files = Sources::new(DRIVER, "1.0").files();
    for (file, content) in &mut files {
        match file.as_str() {
            "Makefile" => content
                .push_str("ifneq (,$(findstring cloud,$(KERNELRELEASE)))\nccflags-y += -DTOO_NEW\nendif\n"),
            "picky.c" => content.insert_str(0, "#ifdef TOO_NEW\n#error too new for picky\n#endif\n"),
            _ => {}
        }
    }
    files
}

/// Two kernels of one release, the newer one not installed yet, and the driver in use and installed for the older one.
fn prepared(suite: &'static Suite) -> (Layer, [Kernel; 2]) {
    let product = stage::product(suite);
    let base = Root::on(&suite.base());
    let kernels =
        [Flavour::Plain, Flavour::Cloud].map(|flavour| Kernel::newest(&base, flavour, suite.kernel_series));
    drop(base);
    let old = &kernels[0];
    let text: String = sources().into_iter().map(|(file, content)| file + &content).collect();
    let key = format!("{}{SYS}{text}small", old.release);
    let layer = product.prepared("boot-default", &key, |root| {
        old.install(root).ok();
        stage::shrink_tree(root, old);
        root.run(SYS).ok();
        for (file, content) in sources() {
            root.write(&format!("/usr/src/picky-1.0/{file}"), content);
        }
        root.run(&format!("dkms add picky/1.0 && dkms install picky/1.0 -k {}", old.release)).ok();
    });
    (layer, kernels)
}

/// The machine is running: the driver is in use.
fn start(layer: &Layer) -> Root {
    let root = Root::on(layer);
    root.run("mount --bind /opt/sys /sys").ok();
    root
}

/// The same with GRUB, and /boot on its own block device.
fn with_grub(suite: &'static Suite) -> (Root, [Kernel; 2]) {
    let (layer, kernels) = prepared(suite);
    let layer = layer.prepared("boot-default-grub", &format!("{PROBE}1"), |root| {
        root.apt_install(&["grub-pc", "e2fsprogs"]).ok();
        root.run("mv /usr/sbin/grub-probe /usr/sbin/grub-probe.real").ok();
        root.write_script("/usr/sbin/grub-probe", PROBE);
        // A root in a PID namespace counts as a container, in which the distribution's hook does not run GRUB.
        root.run("rm -f /usr/bin/systemd-detect-virt").ok();
    });
    let root = start(&layer);
    root.run(BOOT).ok();
    (root, kernels)
}

/// The image that GRUB boots by default: the one on the `linux` line of the default entry.
#[track_caller]
fn booted(root: &Root) -> String {
    let menu = root.read("/boot/grub/grub.cfg");
    // The other entry is chosen for one boot only.
    let defaults =
        menu.lines().filter_map(|line| line.trim().strip_prefix("set default=\"")?.strip_suffix('"'));
    let default = defaults.rev().find(|value| !value.starts_with('$')).expect("a default");
    let mut path = default.split('>').peekable();
    for line in menu.lines().map(str::trim) {
        match path.peek() {
            Some(id) => {
                let entry = line.starts_with("menuentry ") || line.starts_with("submenu ");
                if entry && (*id == "0" || line.contains(&format!("$menuentry_id_option '{id}'"))) {
                    path.next();
                }
            }
            None => {
                if let Some(image) = line.strip_prefix("linux\t") {
                    return image.split(' ').next().unwrap().rsplit('/').next().unwrap().to_owned();
                }
            }
        }
    }
    panic!("the menu has no entry {default:?}\n{menu}");
}

fn image_of(kernel: &Kernel) -> String {
    format!("vmlinuz-{}", kernel.release)
}

/// The new kernel is installed, and the driver does not build for it.
#[track_caller]
fn new_kernel(root: &Root, kernels: &[Kernel; 2]) -> Output {
    let [old, new] = kernels;
    let told = new.install(root).ok().says(&["too new for picky"]);
    root.expect_installed(&["picky/1.0"], &old.release);
    assert_ne!(root.state_of("picky/1.0", &new.release), "installed");
    told
}

/// A driver that builds for all kernels.
#[track_caller]
fn repaired(root: &Root, kernels: &[Kernel; 2]) -> Output {
    let package = Sources::new(DRIVER, "1.1").package(root);
    let told = root.apt_install(&[&package]).ok();
    kernels.iter().for_each(|kernel| root.expect_installed(&["picky/1.1"], &kernel.release));
    told
}

#[test]
fn trixie_grub_keeps_the_old_kernel_until_the_driver_builds() {
    grub_keeps_the_old_kernel(Suite::trixie());
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn bookworm_grub_keeps_the_old_kernel_until_the_driver_builds() {
    grub_keeps_the_old_kernel(Suite::bookworm());
}

fn grub_keeps_the_old_kernel(suite: &'static Suite) {
    let (root, kernels) = with_grub(suite);
    let [old, new] = &kernels;
    assert_eq!(booted(&root), image_of(old));
    let before = root.run("cd /etc && find default grub.d -type f -exec sha256sum {} +").ok().stdout;
    let said =
        format!("picky: in use, but not built for {}; {} remains the boot default", new.release, old.release);
    // Before the failure: it is remembered only as long as the same make and compiler run.
    let counters = Counters::install(&root);
    new_kernel(&root, &kernels).says(&[&said, DROP_IN, "keep_boot_default = false"]);
    assert_eq!(booted(&root), image_of(old));
    // Both kernels are in the menu.
    assert!(root.read("/boot/grub/grub.cfg").contains(&image_of(new)));
    // Nothing more to do: no process, no second message.
    counters.take();
    let hook = format!("/etc/kernel/postinst.d/dkms {0} /boot/vmlinuz-{0}", new.release);
    root.run(&hook).ok().quiet_stdout().never_says(&["boot default"]);
    assert_eq!(counters.take().lines, [""; 0]);
    // A run that was killed before it wrote the file is completed.
    root.run(&format!("sed -i 's/\"done\": true/\"done\": false/' {STATE} && rm {DROP_IN} && update-grub"))
        .ok();
    assert_eq!(booted(&root), image_of(new));
    root.run(&format!("dkms autoinstall -k {}", new.release)).fails().says(&["remains the boot default"]);
    assert_eq!(booted(&root), image_of(old));
    // What a run could not do at all, doctor finds and does.
    root.run(&format!("rm {STATE} {DROP_IN} && update-grub")).ok();
    root.run("dkms doctor").exits(20).says(&["the boot default is out of date", &said]);
    root.run("dkms doctor --fix").says(&["remains the boot default"]);
    assert_eq!(booted(&root), image_of(old));
    root.run("dkms doctor").never_says(&["boot default"]);
    // Nothing regenerates the menu after a module's package, except for dkms.
    repaired(&root, &kernels).says(&[&format!("{} is no longer kept as the boot default", old.release)]);
    assert_eq!(booted(&root), image_of(new));
    assert!(!root.exists(DROP_IN) && !root.exists(STATE));
    let after = root.run("cd /etc && find default grub.d -type f -exec sha256sum {} +").ok().stdout;
    assert_eq!(after, before, "undone exactly");
    root.expect_clean_dpkg();
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn grub_forgets_when_either_kernel_goes() {
    let (root, kernels) = with_grub(Suite::trixie());
    let [old, new] = &kernels;
    new_kernel(&root, &kernels);
    assert!(root.exists(DROP_IN));
    root.run(&format!("apt-get -q -y purge {} {}", new.image(), new.headers())).ok();
    assert_eq!(booted(&root), image_of(old));
    assert!(!root.exists(DROP_IN) && !root.exists(STATE));
    new_kernel(&root, &kernels);
    assert!(root.exists(DROP_IN));
    root.run(&format!("apt-get -q -y purge {} {}", old.image(), old.headers())).ok();
    assert_eq!(booted(&root), image_of(new));
    assert!(!root.exists(DROP_IN) && !root.exists(STATE));
}

#[test]
fn grubs_own_choice_stays_whenever_it_is_made() {
    let (root, kernels) = with_grub(Suite::trixie());
    let [old, new] = &kernels;
    let look = format!("dkms autoinstall -k {}", new.release);
    // With upstream's grub-mkconfig there is no drop-in directory.
    root.run("sed -i s,default/grub.d,default/none, /usr/sbin/grub-mkconfig").ok();
    new_kernel(&root, &kernels).says(&["/usr/sbin/grub-mkconfig does not read /etc/default/grub.d"]);
    assert!(!root.exists(DROP_IN) && !root.exists(STATE));
    root.run("sed -i s,default/none,default/grub.d, /usr/sbin/grub-mkconfig").ok();
    root.run("sed -i 's/^GRUB_DEFAULT=.*/GRUB_DEFAULT=saved/' /etc/default/grub").ok();
    let said = "the boot default was not changed: /etc/default/grub sets a default";
    root.run(&look).fails().says(&[said]);
    assert!(!root.exists(DROP_IN) && !root.exists(STATE));
    // The admin's default is removed, and dkms decides again.
    root.run("sed -i 's/^GRUB_DEFAULT=.*/GRUB_DEFAULT=0/' /etc/default/grub").ok();
    root.run(&look).fails().says(&["remains the boot default"]);
    assert_eq!(booted(&root), image_of(old));
    // The admin sets a default again: our file has no effect, although it still exists.
    root.run("sed -i 's/^GRUB_DEFAULT=.*/GRUB_DEFAULT=\"1>0\"/' /etc/default/grub && update-grub").ok();
    assert!(root.exists(DROP_IN) && root.read("/boot/grub/grub.cfg").contains("set default=\"1>0\""));
    root.run("sed -i 's/^GRUB_DEFAULT=.*/GRUB_DEFAULT=0/' /etc/default/grub").ok();
    // The admin deletes our file: it is not written again.
    root.run(&format!("rm {DROP_IN} && update-grub")).ok();
    root.run(&look).fails().never_says(&["boot default"]);
    assert_eq!(booted(&root), image_of(new));
    repaired(&root, &kernels).never_says(&["no longer kept"]);
    assert!(!root.exists(STATE));
}

#[test]
fn one_key_switches_it_off() {
    let (root, kernels) = with_grub(Suite::trixie());
    let [old, new] = &kernels;
    new_kernel(&root, &kernels);
    assert_eq!(booted(&root), image_of(old));
    root.write("/etc/dkms/policy.toml", "keep_boot_default = false\n");
    root.run(&format!("dkms autoinstall -k {}", new.release))
        .fails()
        .says(&["keep_boot_default no longer applies"]);
    assert_eq!(booted(&root), image_of(new));
    assert!(!root.exists(DROP_IN) && !root.exists(STATE));
    root.run(&format!("dkms autoinstall -k {}", new.release)).fails().never_says(&["boot default"]);
    assert!(!root.exists(DROP_IN) && !root.exists(STATE));
    // When dkms-rs is removed, no later run could undo the change.
    root.write("/etc/dkms/policy.toml", "");
    root.run(&format!("dkms autoinstall -k {}", new.release)).fails().says(&["remains the boot default"]);
    assert_eq!(booted(&root), image_of(old));
    root.run("apt-get -q -y remove dkms-rs").ok().says(&["no longer kept as the boot default"]);
    assert_eq!(booted(&root), image_of(new));
    assert!(!root.exists(DROP_IN) && !root.exists(STATE));
}

/// The prefix of entries' names.
const TOKEN: &str = "4f1c2d4f1c2d4f1c2d4f1c2d4f1c2d4f";

/// An ESP as written by `bootctl install` and kernel-install, but on a tmpfs: not every kernel has FAT.
fn with_esp(conf: &str) -> (Root, [Kernel; 2]) {
    let (layer, kernels) = prepared(Suite::trixie());
    let layer = layer.prepared("boot-default-esp", "1", |root| {
        root.apt_install(&["systemd-boot-tools"]).ok();
    });
    let root = start(&layer);
    root.run("mkdir /efi && mount -t tmpfs tmpfs /efi").ok();
    root.write("/efi/loader/loader.conf", conf);
    for kernel in &kernels {
        let release = &kernel.release;
        root.write(
            &format!("/efi/loader/entries/{TOKEN}-{release}.conf"),
            format!(
                "title      Debian GNU/Linux 13 (trixie)\nversion    {release}\nmachine-id {TOKEN}\nsort-key   debian\n\
                 options    root=UUID=5ad1 ro\nlinux      /{TOKEN}/{release}/linux\ninitrd     /{TOKEN}/{release}/initrd\n"
            ),
        );
        root.write(&format!("/efi/{TOKEN}/{release}/linux"), "");
        root.write(&format!("/efi/{TOKEN}/{release}/initrd"), "");
    }
    (root, kernels)
}

/// The kernel that systemd-boot would boot, according to bootctl.
#[track_caller]
fn started(root: &Root) -> String {
    let list = root.run("SYSTEMD_RELAX_ESP_CHECKS=1 bootctl --esp-path=/efi --no-pager list").ok();
    let title = list.stdout.lines().find(|line| line.contains("(default)"));
    let (_, kernel) = title.and_then(|line| line.split_once("trixie) (")).unwrap_or_else(|| panic!("{list}"));
    kernel.split(')').next().unwrap().to_owned()
}

#[track_caller]
fn systemd_boot(conf: &str, wanted: impl Fn(&str) -> String) {
    let (root, kernels) = with_esp(conf);
    let [old, new] = &kernels;
    assert_eq!(started(&root), new.release, "what is to be changed");
    new_kernel(&root, &kernels).says(&["remains the boot default", "/efi/loader/loader.conf"]);
    let ours = format!(
        "# set by dkms until picky is built for {}\ndefault {TOKEN}-{}.conf\n",
        new.release, old.release
    );
    assert_eq!(root.read("/efi/loader/loader.conf"), wanted(&ours));
    assert_eq!(started(&root), old.release);
    repaired(&root, &kernels).says(&["no longer kept as the boot default"]);
    assert_eq!(root.read("/efi/loader/loader.conf"), conf, "undone exactly");
    assert_eq!(started(&root), new.release);
    assert!(!root.exists(STATE));
}

#[test]
fn systemd_boot_is_told_in_loader_conf() {
    systemd_boot("#timeout 3\n#console-mode keep\n", |ours| {
        format!("{ours}#timeout 3\n#console-mode keep\n")
    });
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn systemd_boots_pattern_comes_back() {
    systemd_boot("timeout 3\ndefault 4f1c2d*\neditor no\n", |ours| format!("timeout 3\n{ours}editor no\n"));
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn systemd_boots_own_choice_stays() {
    let conf = "default windows.conf\n";
    let (root, kernels) = with_esp(conf);
    new_kernel(&root, &kernels)
        .says(&["was not changed", "/efi/loader/loader.conf sets default windows.conf"]);
    assert_eq!(root.read("/efi/loader/loader.conf"), conf);
    assert!(!root.exists(STATE));
}

/// Fedora's program is not in Debian: a stand-in records its arguments, and prints what the real one does.
#[test]
fn grubby_is_told_and_told_back() {
    let (layer, kernels) = prepared(Suite::trixie());
    let root = start(&layer);
    let [old, new] = &kernels;
    root.run("rm /etc/os-release").ok();
    root.write("/etc/os-release", "ID=fedora\nVERSION_ID=43\n");
    root.write("/opt/default", format!("/boot/vmlinuz-{}", new.release));
    root.write_script(
        "/usr/sbin/grubby",
        "#!/bin/sh\ncase $1 in\n--default-kernel) cat /opt/default ;;\n\
         --set-default=*) echo \"$*\" >>/opt/told; printf %s \"${1#*=}\" >/opt/default ;;\n*) exit 1 ;;\nesac\n",
    );
    new_kernel(&root, &kernels).says(&["remains the boot default"]);
    assert_eq!(root.read("/opt/told"), format!("--set-default=/boot/vmlinuz-{}\n", old.release));
    repaired(&root, &kernels).says(&["no longer kept as the boot default"]);
    assert_eq!(root.read("/opt/default"), format!("/boot/vmlinuz-{}", new.release));
    assert_eq!(root.read("/opt/told").lines().count(), 2);
    assert!(!root.exists(STATE));
}

/// Proxmox's tool is not in Debian: a stand-in records its calls, and makes the pinned kernel the default of the boot partitions, as
/// the real one does. Its hook for kernels runs it, too.
const BOOT_TOOL: &str = "#!/bin/sh
[ \"$*\" = refresh ] || exit 1
echo \"$*\" >>/opt/called
pin=$(head -n 1 /etc/kernel/proxmox-boot-pin 2>/dev/null)
echo \"default proxmox-${pin:-*}\" >/opt/default
";

#[test]
fn proxmox_boots_the_kernel_that_is_pinned() {
    let (layer, kernels) = prepared(Suite::trixie());
    let root = start(&layer);
    let old = &kernels[0];
    let pin = "/etc/kernel/proxmox-boot-pin";
    root.write("/etc/kernel/proxmox-boot-uuids", "1A2B-3C4D\n");
    root.write_script("/usr/sbin/proxmox-boot-tool", BOOT_TOOL);
    root.write_script(
        "/etc/kernel/postinst.d/zz-proxmox-boot",
        "#!/bin/sh\nexec proxmox-boot-tool refresh\n",
    );
    new_kernel(&root, &kernels).says(&["remains the boot default", pin]);
    assert_eq!(root.read(pin), format!("{}\n", old.release));
    assert_eq!(root.read("/opt/default"), format!("default proxmox-{}\n", old.release));
    assert_eq!(root.read("/opt/called"), "refresh\n", "by the hook, not by dkms");
    // Nothing but dkms runs it after a module's package.
    repaired(&root, &kernels).says(&[&format!("{} is no longer kept as the boot default", old.release)]);
    assert_eq!(root.read("/opt/called"), "refresh\nrefresh\n");
    assert_eq!(root.read("/opt/default"), "default proxmox-*\n");
    assert!(!root.exists(pin) && !root.exists(STATE));
}

#[test]
fn what_is_pinned_on_proxmox_stays() {
    let (layer, kernels) = prepared(Suite::trixie());
    let root = start(&layer);
    let (new, pin) = (&kernels[1].release, "/etc/kernel/proxmox-boot-pin");
    root.write("/etc/kernel/proxmox-boot-uuids", "1A2B-3C4D\n");
    root.write_script("/usr/sbin/proxmox-boot-tool", BOOT_TOOL);
    root.write(pin, format!("{new}\n"));
    new_kernel(&root, &kernels).says(&[&format!("the boot default was not changed: {pin} pins {new}")]);
    assert_eq!(root.read(pin), format!("{new}\n"));
    assert!(!root.exists(STATE) && !root.exists("/opt/called"));
}

#[test]
fn nothing_is_written_without_a_loader_that_is_known() {
    let (layer, kernels) = prepared(Suite::trixie());
    let root = start(&layer);
    new_kernel(&root, &kernels).never_says(&["boot default"]);
    assert!(!root.exists(STATE) && !root.exists("/etc/default/grub.d"));
    let all = "find / -xdev \\( -path /proc -o -path /dev -o -path /tmp -o -path /run -o -path /opt/sys -o -path '*/.dkms-rs/history' \\) -prune -o \
               -type f -printf '%p %s\\n' -exec sha256sum {} + | sha256sum";
    let before = root.run(all).ok().stdout;
    root.run(&format!("/etc/kernel/postinst.d/dkms {0} /boot/vmlinuz-{0}", kernels[1].release)).ok();
    assert_eq!(root.run(all).ok().stdout, before, "byte-identical");
    // The menus of other loaders: the new kernel is named, and nothing is written.
    for (name, file) in [
        ("Limine", "/boot/limine.conf"),
        ("extlinux", "/boot/extlinux/extlinux.conf"),
        ("proxmox-boot-tool", "/etc/kernel/proxmox-boot-uuids"),
    ] {
        root.write(file, format!("default {}\n", kernels[1].release));
        let before = root.run(all).ok().stdout;
        root.run(&format!("/etc/kernel/postinst.d/dkms {0} /boot/vmlinuz-{0}", kernels[1].release))
            .ok()
            .says(&[&format!("dkms does not change what {name} starts")]);
        assert_eq!(root.run(all).ok().stdout, before, "{name}");
        root.run(&format!("rm {file}")).ok();
    }
}

#[test]
#[ignore = "long: run by `make test-long`"]
fn a_module_that_nothing_uses_changes_nothing() {
    let (root, kernels) = with_grub(Suite::trixie());
    root.run("umount /sys").ok();
    new_kernel(&root, &kernels).never_says(&["boot default"]);
    assert_eq!(booted(&root), image_of(&kernels[1]));
    assert!(!root.exists(DROP_IN) && !root.exists(STATE));
}
