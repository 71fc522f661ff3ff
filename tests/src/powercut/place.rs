//! Where a story runs: in a root on this machine's kernel, or, for a file system that this kernel may lack, in a machine of
//! its own with Debian's kernel.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::disk::Layout;
use crate::boot::machine::Machine;
use crate::kernels::Flavour;
use crate::roots::Layer;
use crate::{Kernel, Output, Root, host, stage};

/// Makes a root believe that the machine was started again.
const OTHER_BOOT: &str = "echo 00000000-0000-4000-8000-000000000000 >/opt/boot_id && \
     mount --bind /opt/boot_id /proc/sys/kernel/random/boot_id";

/// A place with the volumes of a layout, which are not mounted yet.
pub struct Place {
    root: Root,
    machine: Option<Machine>,
    /// The block devices of the volumes, inside.
    pub devices: Vec<PathBuf>,
}

impl Place {
    /// A root over a layer, with these files as volumes.
    pub fn start(layout: &Layout, layer: &Layer, volumes: &[PathBuf]) -> Self {
        let root = Root::on(layer);
        let Some(module) = layout.module else {
            return Self { root, machine: None, devices: volumes.iter().map(|file| attach(file)).collect() };
        };
        let (kernel_layer, kernel) = kernel(layer);
        let from = Root::on(&kernel_layer);
        let machine = Machine::start(&root, &from, &kernel, &["virtio_blk", module], volumes);
        let devices = ('a'..).take(volumes.len()).map(|letter| PathBuf::from(format!("/dev/vd{letter}")));
        Self { root, machine: Some(machine), devices: devices.collect() }
    }

    /// From now on, the machine was started again. A machine of its own was.
    pub fn restarted(self) -> Self {
        if self.machine.is_none() {
            self.root.run(OTHER_BOOT).ok();
        }
        self
    }

    /// Runs a shell command.
    pub fn run_within(&self, seconds: u32, command: &str) -> Output {
        match &self.machine {
            // Emulated.
            Some(machine) => machine.run_within(20 * seconds, command),
            None => self.root.run_within(seconds, command),
        }
    }

    /// Runs a shell command, with a limit for ordinary ones.
    pub fn run(&self, command: &str) -> Output {
        self.run_within(300, command)
    }

    /// A file that can be written inside: its path there and here.
    pub fn shared(&self, name: &str) -> (String, PathBuf) {
        let inside = format!("/opt/{name}");
        match &self.machine {
            Some(machine) => machine.shared(name),
            None => (inside.clone(), self.root.path(&inside)),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.machine.is_none() {
            for device in &self.devices {
                Command::new("losetup").arg("-d").arg(device).status().ok();
            }
        }
    }
}

/// A block device with the content of a file.
fn attach(file: &Path) -> PathBuf {
    PathBuf::from(host::run_host(&format!("losetup --find --show {}", file.display())).trim())
}

/// A standard kernel with all its modules; it is not installed as a package.
fn kernel(layer: &Layer) -> (Layer, Kernel) {
    let suite = layer.suite();
    // The product's package brings kmod.
    let product = stage::product(suite);
    let kernel = Kernel::newest(&Root::on(&product), Flavour::Plain, suite.kernel_series);
    let unpacked = product.prepared("unpacked-kernel", &kernel.release, |root| {
        let deb = root.download(&[&kernel.image()]).remove(0);
        let name = deb.file_name().unwrap_or_default().to_string_lossy().into_owned();
        root.run(&format!(
            "dpkg-deb -x /var/cache/apt/archives/{name} /opt/image && cp -a /opt/image/boot/. /boot/"
        ))
        .ok();
        root.run(&format!(
            "cp -a /opt/image/usr/lib/modules /usr/lib/ && rm -r /opt/image && depmod {}",
            kernel.release
        ))
        .ok();
    });
    (unpacked, kernel)
}
