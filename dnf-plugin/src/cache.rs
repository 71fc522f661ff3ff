//! The cache of dnf5.

use std::path::{Path, PathBuf};

use dkms_core::sys::file::sorted_entries;

/// A package's file in a cache with `REPOSITORY-HASH/packages/FILE`: the newest directory of the repository that
/// contains it. A missing file gets a path, too, so that it can be reported.
pub fn cached(cache: &Path, repository: &str, location: &str) -> PathBuf {
    let name = location.rsplit('/').next().unwrap_or_default();
    let of_it = sorted_entries(cache).into_iter().filter(|entry| {
        let directory = entry.file_name().and_then(|name| name.to_str());
        let hash = directory.and_then(|name| name.strip_prefix(repository)?.strip_prefix('-'));
        hash.is_some_and(|hash| !hash.contains('-'))
    });
    let files = of_it.map(|entry| entry.join("packages").join(name));
    let found = files.max_by_key(|file| file.metadata().and_then(|meta| meta.modified()).ok());
    found.unwrap_or_else(|| cache.join(repository).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_lie_in_the_cache_of_their_repository() {
        let cache = tempfile::tempdir().unwrap();
        let put = |directory: &str, name: &str| {
            let packages = cache.path().join(directory).join("packages");
            std::fs::create_dir_all(&packages).unwrap();
            std::fs::File::create(packages.join(name)).unwrap();
            packages.join(name)
        };
        let updates = put("updates-0123456789abcdef", "a.rpm");
        put("updates-testing-0123456789abcdef", "a.rpm");
        put("updates-fedcba9876543210", "b.rpm");
        let fetched = put("@commandline-0123456789abcdef", "c.rpm");
        let found = |repository: &str, location: &str| cached(cache.path(), repository, location);
        assert_eq!(found("updates", "Packages/a/a.rpm"), updates);
        assert_eq!(found("@commandline", "https://some.where/c.rpm"), fetched);
        for missing in [found("updates", "c.rpm"), found("other", "a.rpm"), found("", "")] {
            assert!(!missing.is_file(), "{missing:?}");
        }
    }
}
