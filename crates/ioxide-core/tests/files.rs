//! Whole operations on files: what is read is what was written, whichever way.
#![allow(clippy::unwrap_used, unsafe_code, reason = "tests")]

use ioxide_core::files::cached::{self, Outcome};
use ioxide_core::files::copy::{copy, NotCopied};
use ioxide_core::files::local::{kind_of, Directories, Kind, Place};
use ioxide_core::files::memory::Credit;
use ioxide_core::files::read::Source;
use ioxide_core::files::write::{Mode, Target};
use ioxide_core::files::Failure;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// A folder of one test, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("ioxide-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn path(&self, name: &str) -> CString {
        c(&self.0.join(name))
    }

    fn content(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.0.join(name)).unwrap()
    }

    fn put(&self, name: &str, content: &[u8]) {
        std::fs::write(self.0.join(name), content).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn c(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

fn read(path: &CString, room: usize) -> (Vec<u8>, Vec<u8>) {
    let mut buffer = Vec::with_capacity(room);
    let source = Source::open(path).unwrap();
    let space = &mut buffer.spare_capacity_mut()[..room];
    let (filled, rest) = source.read_to_end(space).unwrap();
    let filled = space[..filled]
        .iter()
        // SAFETY: so many bytes were read into it.
        .map(|byte| unsafe { byte.assume_init() })
        .collect();
    (filled, rest)
}

fn write(path: &CString, bytes: &[u8], mode: Mode) -> io::Result<usize> {
    Target::open(path, mode)?.write(bytes, mode)
}

#[test]
fn what_does_not_fit_the_room_is_the_rest() {
    let folder = Folder::new();
    let content: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
    folder.put("file", &content);
    for room in [0, 1, 199_000, 199_999, 200_000, 200_001, 300_000] {
        let (filled, rest) = read(&folder.path("file"), room);
        assert_eq!(filled.len(), room.min(content.len()));
        assert_eq!([filled, rest].concat(), content);
    }
}

/// Their memory is made ready piece by piece, which begins and ends anywhere.
#[test]
fn large_files_are_read_whole_wherever_the_room_begins() {
    let folder = Folder::new();
    let content: Vec<u8> = (0..9_000_003_u32).map(|n| (n / 7) as u8).collect();
    folder.put("file", &content);
    for (offset, room) in [
        (0, 9_000_003),
        (1, 9_000_004),
        (48, 8_999_999),
        (4096, 4 << 20),
        (5000, (4 << 20) + 1),
        (77, 12 << 20),
    ] {
        let mut buffer: Vec<u8> = Vec::with_capacity(offset + room);
        let space = &mut buffer.spare_capacity_mut()[offset..offset + room];
        let source = Source::open(&folder.path("file")).unwrap();
        let (filled, rest) = source.read_to_end(space).unwrap();
        assert_eq!(filled, room.min(content.len()));
        // SAFETY: so many bytes were read into it.
        let read = unsafe { std::slice::from_raw_parts(space.as_ptr().cast::<u8>(), filled) };
        assert!(read == &content[..filled], "offset {offset}, room {room}");
        assert!(rest == content[filled..], "offset {offset}, room {room}");
    }
}

#[test]
fn huge_pages_that_are_quick_are_used_for_good() {
    let credit = Credit::new();
    for _ in 0..10_000 {
        assert!(credit.allows());
        credit.took(100_000);
    }
    // Some slow ones are no reason to stop after that; many are.
    for _ in 0..4 {
        assert!(credit.allows());
        credit.took(5_000_000);
    }
    credit.took(5_000_000);
    assert!(!credit.allows());
}

/// Where each is slow, looking for quick ones costs a few per cent of what reading takes anyway.
#[test]
fn huge_pages_that_are_slow_are_tried_now_and_then() {
    const COST: u64 = 5_000_000;
    for small in [200_000, 800_000] {
        let credit = Credit::new();
        let (mut tried, pieces) = (0, 100_000);
        for _ in 0..pieces {
            if credit.allows() {
                tried += 1;
                credit.took(COST);
            } else {
                credit.did_without(2 << 20, small);
            }
        }
        assert!(tried > 50, "{tried}");
        assert!(tried * COST < pieces * small / 20, "{tried}");
    }
}

/// However many are slow: they cost no more than they save, one attempt, and a fortieth of what is done without.
#[test]
fn huge_pages_pay_for_themselves() {
    const SMALL: u64 = 800_000;
    for slow_ones in 0..=10 {
        let credit = Credit::new();
        let (mut pays, mut cost) = (5_000_000, 0);
        for page in 0..10_000 {
            if !credit.allows() {
                credit.did_without(2 << 20, SMALL);
                pays += SMALL / 40;
            } else if page % 10 < slow_ones {
                credit.took(5_000_000);
                cost += 5_000_000 - SMALL;
            } else {
                credit.took(100_000);
                pays += SMALL - 100_000;
            }
            assert!(cost <= pays, "{slow_ones} of 10: {cost} of {pays}");
        }
    }
}

#[test]
fn a_directory_is_no_file_to_read() {
    let folder = Folder::new();
    let error = Source::open(&folder.path(".")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EISDIR));
}

#[test]
fn replacing_leaves_nothing_behind_the_new_bytes() {
    let folder = Folder::new();
    for before in [0, 5, 10, 100_000] {
        folder.put("file", &vec![b'o'; before]);
        assert_eq!(
            write(&folder.path("file"), b"0123456789", Mode::Replace).unwrap(),
            10
        );
        assert_eq!(folder.content("file"), b"0123456789");
    }
}

#[test]
fn appending_keeps_what_is_there() {
    let folder = Folder::new();
    for piece in [b"one", b"two"] {
        write(&folder.path("file"), piece, Mode::Append).unwrap();
    }
    assert_eq!(folder.content("file"), b"onetwo");
}

/// Each append is one call, however large: others that append come before it or behind it.
#[test]
fn large_appends_stay_together() {
    const SIZE: usize = 1 << 20;
    let folder = Folder::new();
    std::thread::scope(|scope| {
        for letter in *b"abc" {
            let path = folder.path("file");
            scope.spawn(move || {
                for _ in 0..8 {
                    write(&path, &vec![letter; SIZE], Mode::Append).unwrap();
                }
            });
        }
    });
    let content = folder.content("file");
    assert_eq!(content.len(), 24 * SIZE);
    for piece in content.chunks(SIZE) {
        assert!(piece.iter().all(|byte| *byte == piece[0]));
    }
}

#[test]
fn large_files_are_written_over_in_pieces() {
    let folder = Folder::new();
    let content: Vec<u8> = (0..1_500_001_u32).map(|n| (n / 3) as u8).collect();
    for before in [0, 100, 3_000_000] {
        folder.put("file", &vec![b'o'; before]);
        let count = write(&folder.path("file"), &content, Mode::Replace).unwrap();
        assert_eq!(count, content.len());
        assert!(folder.content("file") == content, "{before}");
    }
}

#[test]
fn copies_are_whole_and_replace() {
    let folder = Folder::new();
    for size in [0, 1, 1_000_000] {
        folder.put("source", &vec![b'x'; size]);
        let count = copy(&folder.path("source"), &folder.path("target")).unwrap();
        assert_eq!(count, size as u64);
        assert_eq!(folder.content("target"), folder.content("source"));
    }
}

#[test]
fn nothing_is_copied_onto_itself() {
    let folder = Folder::new();
    folder.put("file", b"content");
    std::fs::hard_link(folder.0.join("file"), folder.0.join("same")).unwrap();
    let result = copy(&folder.path("file"), &folder.path("same"));
    assert!(matches!(result, Err(NotCopied::SameFile)));
    assert_eq!(folder.content("file"), b"content");
}

#[test]
fn a_copy_says_which_file_could_not_be_opened() {
    let folder = Folder::new();
    folder.put("file", b"");
    let result = copy(&folder.path("missing"), &folder.path("target"));
    assert!(matches!(result, Err(NotCopied::Source(Failure::Open(_)))));
    assert!(!folder.0.join("target").exists());
    let result = copy(&folder.path("file"), &folder.path("missing/target"));
    assert!(matches!(result, Err(NotCopied::Target(Failure::Open(_)))));
}

#[test]
fn a_link_is_never_followed_without_waiting() {
    let folder = Folder::new();
    folder.put("file", b"content");
    std::os::unix::fs::symlink("file", folder.0.join("link")).unwrap();
    assert!(cached::open(&folder.path("link")).is_none());
    assert!(cached::open(&folder.path("missing")).is_none());
}

#[test]
fn what_is_in_memory_is_read_whole_or_not_at_all() {
    let folder = Folder::new();
    folder.put("file", b"content");
    let Some(source) = cached::open(&folder.path("file")) else {
        // This kernel cannot, and says so.
        return;
    };
    let kind = kind_of(source.fd()).unwrap();
    let mut room = Vec::with_capacity(source.expected());
    let space = &mut room.spare_capacity_mut()[..7];
    match source.read_cached(space, kind) {
        Outcome::Whole => {
            let read: Vec<u8> = space
                .iter()
                // SAFETY: the whole file, which is as long, was read into it.
                .map(|byte| unsafe { byte.assume_init() })
                .collect();
            assert_eq!(read, b"content");
        }
        outcome => assert_eq!(outcome, Outcome::Unsupported),
    }
    // Grown since: there is more than was expected.
    write(&folder.path("file"), b" and more", Mode::Append).unwrap();
    assert_ne!(source.read_cached(space, kind), Outcome::Whole);
    // The position has not moved: whoever reads on reads from the start.
    let settled = source.settle(&folder.path("file")).unwrap();
    let (filled, rest) = settled.read_to_end(&mut []).unwrap();
    assert_eq!((filled, rest.as_slice()), (0, &b"content and more"[..]));
}

#[test]
fn directories_are_known_for_a_while() {
    let mut known = Directories::default();
    let start = Instant::now();
    let place = Place {
        device: 7,
        kind: Kind::Cached,
    };
    known.note(b"/a/b/file", place, start);
    assert_eq!(known.look_up(b"/a/b/other", start), Some(place));
    assert_eq!(known.look_up(b"/a/file", start), None);
    assert_eq!(known.look_up(b"file", start), None);
    let later = start + Duration::from_secs(60);
    assert_eq!(known.look_up(b"/a/b/other", later), None);
}
