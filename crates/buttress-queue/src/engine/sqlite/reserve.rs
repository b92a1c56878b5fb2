//! Room that is kept for a full disk.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// How much is tried to be kept, in bytes, so that there is something to keep on a small disk as well.
const SIZES: [u64; 3] = [4 << 20, 1 << 20, 256 << 10];

/// A file that is only there to be removed: taking jobs out of a log needs room in the log first.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    size: u64,
    spent: bool,
}

impl Reserve {
    /// Beside this file.
    pub(super) fn of(file: &Path) -> Self {
        let mut reserve = Self { path: beside(file, "-reserve"), size: 0, spent: true };
        for size in SIZES {
            reserve.size = size;
            if reserve.restore() {
                break;
            }
        }
        reserve
    }

    /// Its size in bytes, whether it is there or not.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    pub(super) const fn is_spent(&self) -> bool {
        self.spent
    }

    pub(super) fn spend(&mut self) {
        let _ = fs::remove_file(&self.path);
        self.spent = true;
    }

    /// Whether it is there now.
    pub(super) fn restore(&mut self) -> bool {
        self.spent = self.write().is_err();
        if self.spent {
            let _ = fs::remove_file(&self.path);
        }
        !self.spent
    }

    fn write(&self) -> io::Result<()> {
        if fs::metadata(&self.path).is_ok_and(|there| there.len() == self.size) {
            return Ok(());
        }
        let mut file = File::create(&self.path)?;
        // Noise, because file systems know how to store nothing in no room.
        let mut noise = [0; 64 << 10];
        let mut random = SmallRng::seed_from_u64(self.size);
        for _ in 0..self.size / noise.len() as u64 {
            random.fill_bytes(&mut noise);
            file.write_all(&noise)?;
        }
        file.sync_data()
    }
}

/// A file that belongs to another one.
pub(super) fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut path = OsString::from(file);
    path.push(ending);
    path.into()
}
