//! A small disk: an ext4 file system in a file of its own, for what happens when it is full.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How large it is.
const SIZE: u64 = 64 << 20;

/// The file system, mounted for as long as this lives.
pub(crate) struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// A new one; none where mounting is not allowed.
    pub(crate) fn mount() -> Option<Disk> {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        File::create(&image).unwrap().set_len(SIZE).unwrap();
        std::fs::create_dir(folder.path().join("disk")).unwrap();
        // Nothing is kept back for the superuser, so that full is full.
        let made = run(Command::new("/usr/sbin/mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image));
        let disk = Disk { folder };
        let mounted = made && run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(disk.path()));
        mounted.then_some(disk)
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("disk")
    }

    /// Takes all space that is left.
    pub(crate) fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.ballast()).unwrap();
        for size in [1 << 20, 4096, 1] {
            let bytes = vec![0; size];
            while file.write_all(&bytes).is_ok() {}
        }
    }

    /// Gives it back.
    pub(crate) fn free(&self) {
        std::fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // It may not be mounted, and whoever is still in it must not keep it.
        run(Command::new("umount").arg("--lazy").arg::<&Path>(&self.path()));
    }
}

fn run(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
