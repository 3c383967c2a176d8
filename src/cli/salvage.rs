//! `rollcall salvage`

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::archives::{
    LogProgress, OpenArchive, STANDARD, failure_as_given, kept_line, unmade, warn_of,
    with_beginning,
};
use super::read::print::counted;
use super::running::open_failure;
use super::{Failure, print};
use crate::json;
use crate::log::{OpenError, SalvageError, Salvaged, salvage, seqs_in};

/// Take every record out of a damaged data folder that can be read.
///
/// Reads the store on both sides of the damage and checks each record by its leaf in the tree.
/// Writes them into a new folder as segments of an archive, in a form that any tool reads:
/// docs/format.md specifies it. The folder is called NEW.unfinished until it is complete; the same
/// command goes on with what a run that broke off has left there. Names the records that are
/// missing, and takes them from other copies where `--from` gives some; from a damaged file of a
/// copy, which it names, only those that fit their leaves. Changes nothing in the damaged folder,
/// whose server must be stopped. `rollcall restore` restores the records into a new data folder
/// once none is missing.
#[derive(Args)]
#[command(after_help = "\
Exit codes: 0 if every record was found, 1 if it could not start, 2 if some are or may be missing.

Environment, for s3:// only; each may be in a file that the variable with _FILE names:
  AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_ENDPOINT_URL, AWS_REGION

Examples:
  rollcall salvage --data /var/lib/rollcall --out /var/lib/rollcall.salvaged
  rollcall salvage --data /var/lib/rollcall --from /mnt/copy --out /mnt/salvaged --json
  rollcall salvage --data /var/lib/rollcall --from s3://backups/rollcall --out /mnt/salvaged")]
pub(super) struct SalvageArgs {
    /// The damaged data folder
    #[arg(long, default_value = "./rollcall-data")]
    data: PathBuf,
    /// The folder to make
    #[arg(long, value_name = "NEW")]
    out: PathBuf,
    /// Take missing records from this copy of the log: a data folder, an archive (a folder or
    /// s3://BUCKET/PREFIX), a backup (its folder, or its file), or what `salvage` made; may be given
    /// several times
    #[arg(long, value_name = "COPY")]
    from: Vec<String>,
    /// Print one JSON object
    #[arg(long, help_heading = "Output")]
    json: bool,
}

impl SalvageArgs {
    pub(super) fn run(self) -> Result<(), Failure> {
        if self.out == Path::new(STANDARD) {
            let says = "--out -: it makes a folder, and writes nothing to standard output; name the \
                        folder, or ./- for one of that name";
            return Err(Failure::Caller(says.into()));
        }
        let copies = self.copies()?;
        let places: Vec<_> = copies.iter().map(|copy| copy.place.clone()).collect();
        let progress = LogProgress::new(&self.out);
        let salvaged = salvage(&self.data, &places, &self.out, &|at| progress.show(at));
        drop(progress);
        let salvaged = salvaged.map_err(|error| {
            with_beginning(failure_as_given(failure(error), &copies), &self.out)
        })?;
        let taken = "of its records those were taken that fit their leaves in the data folder";
        warn_of(&salvaged.damaged, &copies, taken);
        print(&if self.json {
            format!("{}\n", in_json(&salvaged))
        } else {
            page(&salvaged, &self.out.display().to_string())
        })?;
        verdict(&salvaged)
    }

    /// Opens every copy. The files of a backup that is one file are put next to the new folder.
    fn copies(&self) -> Result<Vec<OpenArchive>, Failure> {
        let open = |(number, from): (usize, &String)| {
            let next_to = format!("{}.{number}", self.out.display());
            OpenArchive::open(from, Path::new(&next_to))
        };
        self.from.iter().enumerate().map(open).collect()
    }
}

fn failure(error: SalvageError) -> Failure {
    match error {
        SalvageError::Open(OpenError::InUse(folder)) => Failure::Caller(format!(
            "the data folder `{}` is in use by another process: stop the server",
            folder.display()
        )),
        SalvageError::Open(error) => open_failure(error),
        SalvageError::Exists(_)
        | SalvageError::Inside(_)
        | SalvageError::NotAFolder(_)
        | SalvageError::NotACopy(_)
        | SalvageError::OtherLog { .. } => Failure::Caller(error.to_string()),
        SalvageError::Nameless(_) | SalvageError::Place(_) => Failure::ours(error),
        SalvageError::Io { path, error } => unmade(&path, &error),
    }
}

fn in_json(salvaged: &Salvaged) -> serde_json::Value {
    let Salvaged { acknowledged, recovered, missing, lost, root, kept, .. } = salvaged;
    let mut printed = json!({
        "acknowledged": acknowledged,
        "recovered": recovered,
        "missing": missing,
        "lost": lost,
        "root": root.map(hex::encode),
    });
    if *kept > 0 {
        json::set(&mut printed, "kept", json!(kept));
    }
    printed
}

/// Describes the outcome for people.
fn page(salvaged: &Salvaged, out: &str) -> String {
    let Salvaged { acknowledged, recovered, missing, root, kept, .. } = salvaged;
    let recovered = counted(*recovered, "record", "records");
    let mut lines = vec![match acknowledged {
        Some(acknowledged) => {
            format!("{recovered} in `{out}`; {acknowledged} were acknowledged")
        }
        None => format!("{recovered} in `{out}`; no acknowledgement says how many there were"),
    }];
    lines.extend(kept_line(*kept));
    lines.extend(missing.iter().map(|(first, last)| match first == last {
        true => format!("record {first} is missing"),
        false => format!("records {first} to {last} are missing"),
    }));
    lines.extend(root.map(|root| format!("the tree has the root {}", hex::encode(root))));
    lines.extend(salvaged.is_complete().then(|| {
        format!("`rollcall restore --from {out} --data NEW` restores them into a new data folder")
    }));
    lines.join("\n") + "\n"
}

fn verdict(salvaged: &Salvaged) -> Result<(), Failure> {
    if salvaged.is_complete() {
        return Ok(());
    }
    let count = seqs_in(&salvaged.missing);
    Err(Failure::Ours(match count {
        0 if !salvaged.differs => "records missing from the end cannot be noticed, since neither \
             `checkpoint` nor `tree` says how many there were: salvage again with the archive, a \
             backup or another copy of the folder as --from, or, if there is none, restore what is \
             there: `rollcall restore --from NEW --data DIR`"
            .to_owned(),
        0 => "the records have another root than the one acknowledged: some are not what they were"
            .to_owned(),
        count => format!(
            "{} missing; salvage again with another copy of the folder as --from, or, if there is \
             none, restore without them: `rollcall restore --from NEW --data DIR --accept-missing`",
            match count {
                1 => "1 record is".to_owned(),
                count => format!("{count} records are"),
            }
        ),
    }))
}
