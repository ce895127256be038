//! The folder of declarations, a TOML file for each type. A file with a mistake disables its
//! type only.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use edge_mirror_protocol::remote_tasks::TaskTypeName;

use crate::declaration::{self, BUILT_IN, Declaration, DeclarationFault};

/// Files read at most: a folder with more is a mistake.
const MAX_FILES: usize = 100;
/// Size of a declaration.
const MAX_BYTES: u64 = 256 << 10;

/// The types of a folder, and what is wrong in it.
#[derive(Clone, Debug, Default)]
pub struct TypeFolder {
    pub types: BTreeMap<TaskTypeName, Declaration>,
    pub faults: Vec<TypeFileFault>,
}

/// A mistake in a file of the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeFileFault {
    pub file: PathBuf,
    pub fault: DeclarationFault,
}

impl TypeFileFault {
    pub fn in_language(&self, chinese: bool) -> String {
        let colon = if chinese { "：" } else { ": " };
        format!("{}{colon}{}", self.file.display(), self.fault.in_language(chinese))
    }
}

impl fmt::Display for TypeFileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.fault)
    }
}

/// Reads a folder. One that does not exist has no types.
pub fn read(folder: &Path) -> TypeFolder {
    let mut found = TypeFolder::default();
    let files = match files(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return found,
        Err(error) => {
            let fault = DeclarationFault::whole(
                format!("无法读取：{error}；请检查路径和权限"),
                format!("cannot be read: {error}; check the path and its permissions"),
            );
            found.faults.push(TypeFileFault { file: folder.to_owned(), fault });
            return found;
        }
    };
    if let Err(faults) = check_mode(folder) {
        let faults =
            faults.into_iter().map(|fault| TypeFileFault { file: folder.to_owned(), fault });
        found.faults.extend(faults);
        return found;
    }
    if files.len() > MAX_FILES {
        let fault = DeclarationFault::whole(
            format!("超过 {MAX_FILES} 个文件，其余的不读取；请移走一些"),
            format!("has more than {MAX_FILES} files, the rest is not read; move some away"),
        );
        found.faults.push(TypeFileFault { file: folder.to_owned(), fault });
    }
    for file in files.into_iter().take(MAX_FILES) {
        match read_file(&file) {
            Ok(declaration) => {
                found.types.insert(declaration.name.clone(), declaration);
            }
            Err(faults) => {
                let faults =
                    faults.into_iter().map(|fault| TypeFileFault { file: file.clone(), fault });
                found.faults.extend(faults);
            }
        }
    }
    found
}

/// Reads the declaration of one type.
pub fn read_type(folder: &Path, name: &TaskTypeName) -> Result<Declaration, Vec<DeclarationFault>> {
    check_mode(folder)?;
    read_file(&folder.join(format!("{name}.toml")))
}

fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = paths.collect::<io::Result<Vec<PathBuf>>>()?;
    let is_hidden = |path: &Path| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    paths
        .retain(|path| path.extension().is_some_and(|ending| ending == "toml") && !is_hidden(path));
    paths.sort();
    Ok(paths)
}

fn read_file(file: &Path) -> Result<Declaration, Vec<DeclarationFault>> {
    let fault = |zh: String, en: String| vec![DeclarationFault::whole(zh, en)];
    let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let name: TaskTypeName = name.parse().map_err(|_| {
        fault(
            "文件名应为 1 到 64 个 a-z 0-9 _ - 字符，以 .toml 结尾；请改名".into(),
            "the file's name must be 1 to 64 of a-z 0-9 _ - and end in .toml; rename it".into(),
        )
    })?;
    if BUILT_IN.contains(&name.as_str()) {
        return Err(fault(
            format!("{name} 是内置的任务类型；请改名"),
            format!("{name} is a built-in task type; rename the file"),
        ));
    }
    check_mode(file)?;
    let text = read_text(file).map_err(|error| {
        fault(
            format!("无法读取：{error}；请检查文件和权限"),
            format!("cannot be read: {error}; check the file and its permissions"),
        )
    })?;
    let declaration = declaration::parse(name, &text)?;
    check_program(&declaration.command.program)?;
    Ok(declaration)
}

fn read_text(file: &Path) -> io::Result<String> {
    if fs::metadata(file)?.len() > MAX_BYTES {
        return Err(io::Error::other("larger than 256 KiB"));
    }
    fs::read_to_string(file)
}

/// Whoever may change a declaration decides what runs here.
fn check_mode(path: &Path) -> Result<(), Vec<DeclarationFault>> {
    match fs::metadata(path) {
        Ok(found) if found.permissions().mode() & 0o002 != 0 => {
            let shown = path.display();
            Err(vec![DeclarationFault::whole(
                format!("任何人都可以修改它；请执行 chmod o-w {shown}"),
                format!("anybody may change it; run chmod o-w {shown}"),
            )])
        }
        // Reading tells what else is wrong.
        Ok(_) | Err(_) => Ok(()),
    }
}

fn check_program(program: &Path) -> Result<(), Vec<DeclarationFault>> {
    let is_program =
        |found: fs::Metadata| found.is_file() && found.permissions().mode() & 0o111 != 0;
    if fs::metadata(program).is_ok_and(is_program) {
        return Ok(());
    }
    let mut fault = DeclarationFault::whole(
        format!("{} 不是可执行的程序；请安装它，或改正路径", program.display()),
        format!("{} is not a program; install it or correct the path", program.display()),
    );
    fault.key = Some("command".to_owned());
    Err(vec![fault])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_disables_its_type_only() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("good.toml", "command = ['/bin/true']"),
            ("broken.toml", "command = ["),
            ("absent.toml", "command = ['/no/such/program']"),
            ("verify.toml", "command = ['/bin/true']"),
            ("Upper Case.toml", "command = ['/bin/true']"),
            ("notes.txt", "not read"),
            (".hidden.toml", "["),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let found = read(folder.path());
        let types: Vec<&str> = found.types.keys().map(TaskTypeName::as_str).collect();
        assert_eq!(types, ["good"]);
        let files: Vec<String> = found
            .faults
            .iter()
            .map(|fault| fault.file.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(files, ["Upper Case.toml", "absent.toml", "broken.toml", "verify.toml"]);
        assert!(found.faults[1].to_string().contains("/no/such/program"));
        assert!(read(&folder.path().join("none")).faults.is_empty());
        let open = folder.path().join("good.toml");
        fs::set_permissions(&open, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(read_type(folder.path(), &"good".parse().unwrap()).is_err());
        fs::set_permissions(&open, fs::Permissions::from_mode(0o664)).unwrap();
        assert!(read_type(folder.path(), &"good".parse().unwrap()).is_ok());
    }
}
