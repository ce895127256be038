//! Removes an installation.

use std::path::{Path, PathBuf};

use edge_mirror_base::atomic;
use edge_mirror_settings::{Settings, access_path, schema};

use super::{
    InstallError, labelled,
    places::{InstallPaths, ServiceRole},
    system::{InstallTarget, USER},
};
use crate::{cli::UninstallArgs, terminal};

/// Removes the service; configuration, packages and logs only with `--purge`. Reports
/// what is left.
pub fn run(args: &UninstallArgs, mut tell: impl FnMut(&str)) -> Result<(), InstallError> {
    let places = InstallPaths::new(ServiceRole::of(args.master), args.root.as_deref());
    let system = InstallTarget::at(args.root.as_deref())?;
    let mut said = false;
    let mut say = |text: &str| {
        said = true;
        tell(text);
    };
    if places.is_packaged() {
        return Err(InstallError::Packaged);
    }
    let other_is_here = places.of_other_role().is_installed();
    if places.unit().exists() {
        system.stop(&places)?;
        let drop_in = places.low_port();
        remove(&places.unit(), &mut say)?;
        remove(&drop_in, &mut say)?;
        for (unit, _) in places.task_units() {
            remove(&unit, &mut say)?;
        }
        drop_in.parent().map_or(Ok(()), remove_if_empty)?;
        system.forget()?;
    }
    // Both use one program and one user.
    if !other_is_here {
        remove(&places.binary(), &mut say)?;
    }
    if args.purge {
        purge(&places, &mut say)?;
        if !other_is_here && system.remove_user()? {
            say(&labelled("已删除系统用户", "system user removed", USER));
        }
    }
    report(&places, system, other_is_here, &mut say);
    if !said {
        tell(&terminal::say("没有已安装的内容", "nothing of it is installed"));
    }
    Ok(())
}

/// Removes everything that install or the service made, and no other file.
fn purge(places: &InstallPaths, say: &mut impl FnMut(&str)) -> Result<(), InstallError> {
    let (settings, config) = (places.settings_folder(), places.config());
    let packages = packages_elsewhere(&config);
    for file in [&config, &access_path(&config), &places.options()] {
        remove(file, say)?;
    }
    if settings.is_dir() {
        atomic::sweep_all(&settings).map_err(InstallError::io("clean", &settings))?;
    }
    // Declarations are the operator's, and stay.
    places.task_types().map_or(Ok(()), |types| remove_if_empty(&types))?;
    remove_if_empty(&settings)?;
    let logs = (places.role() == ServiceRole::Node).then(|| places.logs());
    for folder in [Some(places.data()), logs].into_iter().flatten().filter(|f| f.exists()) {
        atomic::remove_folder(&folder).map_err(InstallError::io("remove", &folder))?;
        say(&labelled("已删除", "removed", folder.display()));
    }
    if let Some(packages) = packages {
        say(&labelled("保留", "left", format!("{packages} (storage.path)")));
    }
    Ok(())
}

/// Returns where an operator moved the packages to: other things may lie there.
fn packages_elsewhere(config: &Path) -> Option<String> {
    let document = Settings::document(config).ok()??;
    let path = schema::get(&document.settings, "storage.path")?.as_str()?.to_owned();
    let ours = Path::new(InstallPaths::STORAGE)
        .parent()
        .is_some_and(|data| Path::new(&path).starts_with(data));
    (!ours).then_some(path)
}

fn remove(path: &Path, say: &mut impl FnMut(&str)) -> Result<(), InstallError> {
    if path.exists() {
        atomic::remove_file(path).map_err(InstallError::io("remove", path))?;
        say(&labelled("已删除", "removed", path.display()));
    }
    Ok(())
}

fn remove_if_empty(folder: &Path) -> Result<(), InstallError> {
    atomic::remove_empty_folder(folder).map_err(InstallError::io("remove", folder))
}

fn report(
    places: &InstallPaths,
    system: InstallTarget,
    other_is_here: bool,
    say: &mut impl FnMut(&str),
) {
    let drop_ins = places.low_port().parent().map(Path::to_owned);
    let logs = (places.role() == ServiceRole::Node).then(|| places.logs());
    let folders = [Some(places.settings_folder()), Some(places.data()), logs, drop_ins];
    let left: Vec<PathBuf> = folders.into_iter().flatten().filter(|path| path.exists()).collect();
    for path in &left {
        say(&labelled("保留", "left", path.display()));
    }
    if other_is_here {
        let unit = places.of_other_role().unit_name();
        let program = places.binary();
        let program = program.display();
        say(&terminal::say(
            format!("保留：{program}（由 {unit} 使用）"),
            format!("left: {program} ({unit} uses it)"),
        ));
    } else if system == InstallTarget::Here && system.has_user() {
        say(&terminal::say(
            format!("保留：系统用户 {USER}"),
            format!("left: the system user {USER}"),
        ));
    }
    if !left.is_empty() {
        say(&terminal::say(
            "彻底删除请加 --purge",
            "--purge also removes configuration, packages and logs",
        ));
    }
}
