use std::fs;

use danmu_crds::Anonymous;

use super::*;

fn room(id: &str, spec: &str) -> String {
    format!("apiVersion: danmu.live/v1alpha1\nkind: DanmuRoom\nmetadata: {{name: {id}}}\nspec: {spec}\n")
}

fn fleet(spec: &str) -> String {
    format!("apiVersion: danmu.live/v1alpha1\nkind: DanmuFleet\nmetadata: {{name: default}}\nspec: {spec}\n")
}

fn folder_with(files: &[(&str, String)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

/// A scan of the folder as [`load`] would see it, and the folder to scan again.
fn scanned(dir: &Path) -> (Folder, Catalog) {
    let mut folder = Folder::default();
    let catalog = folder.scan(dir, &Catalog::default());
    (folder, catalog)
}

#[test]
fn the_examples_load() {
    let catalog = load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")).unwrap();
    assert_eq!(catalog.rooms["worlds-final"].anonymous, Anonymous::Speak);
    assert_eq!(catalog.rooms["worlds-final"].mask, ["spoiler", "剧透"]);
    assert_eq!(catalog.rooms["quiet-room"].slow_mode_seconds, 10);
    assert!(catalog.unlisted.is_some());
    assert_eq!(catalog.fleet.server.per_address_cap, Some(20_000));
}

#[test]
fn unlisted_rooms_are_refused_unless_the_fleet_allows_them() {
    assert!(load(folder_with(&[]).path()).unwrap().unlisted.is_none());
    assert!(load(folder_with(&[("f.yaml", fleet("{}"))]).path()).unwrap().unlisted.is_none());
    let allowing = "{server: {unlistedRooms: Allow}, defaults: {limits: {history: 7}}}";
    let catalog = load(folder_with(&[("f.yaml", fleet(allowing))]).path()).unwrap();
    assert_eq!(catalog.unlisted.unwrap().history, 7);
}

#[test]
fn loading_tells_the_faults_of_all_files_and_of_a_folder_that_is_not_there() {
    let dir = folder_with(&[
        ("a.yaml", room("a", "{limits: {history: 5000}}")),
        ("b.yml", "kind: Pod".to_owned()),
        (".hidden.yaml", "[".to_owned()),
        ("notes.txt", "[".to_owned()),
    ]);
    let faults = load(dir.path()).unwrap_err();
    assert!(faults.iter().any(|f| f.contains("a.yaml: spec.limits.history")), "{faults:#?}");
    assert!(faults.iter().any(|f| f.contains("b.yml: kind")), "{faults:#?}");
    assert!(!faults.iter().any(|f| f.contains("hidden") || f.contains("notes")), "{faults:#?}");
    assert!(load(&dir.path().join("gone")).unwrap_err()[0].contains("gone"));
}

#[test]
fn an_edit_changes_its_room_and_leaves_the_others_arc_alone() {
    let dir = folder_with(&[("a.yaml", room("a", "{}")), ("b.yaml", room("b", "{}"))]);
    let (mut folder, before) = scanned(dir.path());
    fs::write(dir.path().join("a.yaml"), room("a", "{limits: {history: 9}}")).unwrap();
    let after = folder.scan(dir.path(), &before);
    assert_eq!(after.rooms["a"].history, 9);
    assert!(Arc::ptr_eq(&before.rooms["b"], &after.rooms["b"]));
    assert!(Arc::ptr_eq(&before.fleet, &after.fleet));
    assert!(after.differs(&before) && !folder.scan(dir.path(), &after).differs(&after));
}

#[test]
fn an_edit_of_the_fleets_servers_alone_is_a_change() {
    let dir = folder_with(&[("f.yaml", fleet("{drainSeconds: 5}"))]);
    let (mut folder, before) = scanned(dir.path());
    fs::write(dir.path().join("f.yaml"), fleet("{drainSeconds: 50}")).unwrap();
    let after = folder.scan(dir.path(), &before);
    assert!(after.differs(&before));
    assert_eq!((before.fleet.drain_seconds, after.fleet.drain_seconds), (5, 50));
}

#[test]
fn an_invalid_edit_keeps_the_files_rooms_while_other_files_go_on() {
    let dir = folder_with(&[("a.yaml", room("a", "{limits: {history: 9}}")), ("b.yaml", room("b", "{}"))]);
    let (mut folder, before) = scanned(dir.path());
    fs::write(dir.path().join("a.yaml"), "spec: [").unwrap();
    fs::remove_file(dir.path().join("b.yaml")).unwrap();
    let broken = folder.scan(dir.path(), &before);
    assert!(Arc::ptr_eq(&before.rooms["a"], &broken.rooms["a"]));
    assert!(!broken.rooms.contains_key("b"), "a removed file takes its rooms along");
    assert_eq!(broken.faults.len(), 1, "{:?}", broken.faults);
    fs::write(dir.path().join("a.yaml"), room("a", "{}")).unwrap();
    let mended = folder.scan(dir.path(), &broken);
    assert_eq!((mended.rooms["a"].history, mended.faults.len()), (50, 0));
}

#[test]
fn a_room_in_two_files_or_of_another_fleet_keeps_the_whole_last_catalog() {
    let dir = folder_with(&[("a.yaml", room("a", "{}")), ("f.yaml", fleet("{}"))]);
    let (mut folder, before) = scanned(dir.path());
    fs::write(dir.path().join("b.yaml"), room("a", "{limits: {history: 1}}")).unwrap();
    fs::write(dir.path().join("c.yaml"), room("c", "{fleet: other}")).unwrap();
    let after = folder.scan(dir.path(), &before);
    assert_eq!((after.rooms.len(), after.rooms["a"].history), (1, 50));
    assert!(after.faults.iter().any(|f| f.contains("room a is in a.yaml too")), "{:?}", after.faults);
    assert!(after.faults.iter().any(|f| f.contains("room c is of fleet other")), "{:?}", after.faults);
}

#[test]
fn a_fault_before_the_first_good_scan_keeps_what_was_loaded() {
    let dir = folder_with(&[("a.yaml", room("a", "{}"))]);
    let first = load(dir.path()).unwrap();
    fs::write(dir.path().join("a.yaml"), "spec: [").unwrap();
    let after = Folder::default().scan(dir.path(), &first);
    assert!(Arc::ptr_eq(&first.rooms["a"], &after.rooms["a"]));
}

#[cfg(unix)]
#[test]
fn the_symlink_swap_of_a_config_map_is_seen_though_time_and_length_are_the_same() {
    use std::os::unix::fs::symlink;
    let dir = folder_with(&[]);
    let now = std::time::SystemTime::now();
    for (version, history) in [("..1", 10), ("..2", 20)] {
        fs::create_dir(dir.path().join(version)).unwrap();
        let path = dir.path().join(version).join("a.yaml");
        fs::write(&path, room("a", &format!("{{limits: {{history: {history}}}}}"))).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_modified(now).unwrap();
    }
    symlink("..1", dir.path().join("..data")).unwrap();
    symlink("..data/a.yaml", dir.path().join("a.yaml")).unwrap();
    let (mut folder, before) = scanned(dir.path());
    symlink("..2", dir.path().join("..data_tmp")).unwrap();
    fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
    let after = folder.scan(dir.path(), &before);
    assert_eq!((before.rooms["a"].history, after.rooms["a"].history), (10, 20));
}

#[tokio::test]
async fn following_sends_an_edit_and_ends_when_nobody_listens() {
    let dir = folder_with(&[("a.yaml", room("a", "{}"))]);
    let first = load(dir.path()).unwrap();
    let (sender, mut receiver) = watch::channel(Arc::new(first.clone()));
    let following = tokio::spawn(follow(dir.path().to_owned(), first, sender));
    fs::write(dir.path().join("a.yaml"), room("a", "{limits: {history: 9}}")).unwrap();
    let deadline = Duration::from_secs(20);
    tokio::time::timeout(deadline, receiver.wait_for(|catalog| catalog.rooms["a"].history == 9))
        .await
        .unwrap()
        .unwrap();
    drop(receiver);
    tokio::time::timeout(deadline, following).await.unwrap().unwrap();
}
