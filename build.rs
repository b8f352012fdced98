//! Enumerates `connectors/` and embeds every file of every folder, so that no list of connectors exists anywhere.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

fn main() -> io::Result<()> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("connectors");
    println!("cargo::rerun-if-changed=connectors");
    let mut code = String::from("/// A shipped folder: its name and its files.\n");
    code.push_str("type Shipped = (&'static str, &'static [(&'static str, &'static [u8])]);\n");
    code.push_str("/// Every shipped folder.\nstatic EMBEDDED: &[Shipped] = &[\n");
    for folder in sorted(&root)?.into_iter().filter(|path| path.is_dir()) {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut files = Vec::new();
        collect(&folder, &mut files)?;
        let _ = writeln!(code, "    ({name:?}, &[");
        for file in files {
            let inner = file.strip_prefix(&folder).unwrap_or(&file).to_string_lossy().replace('\\', "/");
            let _ = writeln!(code, "        ({inner:?}, include_bytes!({:?})),", file.to_string_lossy());
        }
        code.push_str("    ]),\n");
    }
    code.push_str("];\n");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    std::fs::write(out.join("connectors.rs"), code)
}

/// The plain files below `folder`, hidden ones left out.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for path in sorted(folder)? {
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}

fn sorted(folder: &Path) -> io::Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()?;
    paths.retain(|path| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.')));
    paths.sort();
    Ok(paths)
}
