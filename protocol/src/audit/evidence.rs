//! Evidence in an export: each file proves by itself that a key has signed two histories, or proves nothing.

use std::collections::BTreeSet;

use super::{Fault, FileFault, Files, Finding};
use crate::armor::{self, MAX_EVIDENCE_FILE};
use crate::evidence::{Accused, Evidence};
use crate::export;
use crate::federation::Federation;

/// Verifies every file that lies where evidence is. A key is told of once, however many files speak against it.
pub(super) fn verify<F: Files>(files: &F, federation: &Federation) -> Vec<Finding> {
    let names = match files.names(export::EVIDENCE) {
        Ok(names) => names,
        Err(error) => return vec![Finding::of(export::EVIDENCE, error.into())],
    };
    let file = |at: usize| format!("{}/{}", export::EVIDENCE, names[at]);
    let read = files.each(names.len(), |at| read(files, federation, &file(at)));
    let (mut findings, mut accused) = (Vec::new(), BTreeSet::new());
    for (at, read) in read.into_iter().enumerate() {
        match read {
            Ok(Read { against, as_written }) => {
                if accused.insert(against) {
                    findings.push(proven(file(at), against));
                }
                if !as_written {
                    findings.push(Finding::of(file(at), Fault::NotAsWritten));
                }
            }
            Err(fault) => findings.push(Finding::of(file(at), fault)),
        }
    }
    findings
}

/// Evidence that holds.
struct Read {
    against: Accused,
    /// Whether the file is byte for byte, and in name, what an export writes.
    as_written: bool,
}

fn read<F: Files>(files: &F, federation: &Federation, file: &str) -> Result<Read, Fault> {
    let text = String::from_utf8(files.read(file, MAX_EVIDENCE_FILE)?);
    let text = text.map_err(|_| FileFault::Unreadable("it is not UTF-8 text".to_owned()))?;
    let evidence = Evidence::read(&armor::read_evidence(&text)?, federation)?;
    let against = evidence.accused();
    let as_written = export::evidence(against) == file && armor::write_evidence(&evidence) == text;
    Ok(Read { against, as_written })
}

fn proven(file: String, against: Accused) -> Finding {
    let finding = Finding::of(file, Fault::Proven(against));
    match against {
        Accused::Log(log) => finding.in_log(log),
        Accused::Witness(_) => finding,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::files::tests::Memory;
    use crate::audit::tests::World;
    use crate::audit::{Outcome, verify as audit};
    use crate::cosignature::Cosignature;
    use crate::names::MemberId;
    use crate::time::Timestamp;

    /// Another history of the log, of five leaves.
    fn other_history() -> World {
        let mut other = World::new();
        (0..5).for_each(|number| other.add(number + 100, None));
        other
    }

    fn against_log(world: &World) -> Evidence {
        let (one, other) = (world.checkpoint(5), other_history().checkpoint(5));
        Evidence::same_size(&world.federation, world.log, &one, &other).unwrap()
    }

    fn against_witness(world: &World, witness: MemberId) -> Evidence {
        let (key, secret) = (&world.federation.witnesses()[&witness], &world.keys[&witness].witness);
        let [one, other] = [world.checkpoint(5), other_history().checkpoint(5)].map(|signed| {
            let checkpoint = signed.checkpoint().clone();
            (checkpoint.to_string(), Cosignature::sign(&checkpoint, Timestamp(9000), key, secret))
        });
        Evidence::of_witness(&world.federation, witness, (&one.0, &one.1), (&other.0, &other.1)).unwrap()
    }

    fn put(files: &mut Memory, evidence: &Evidence) -> String {
        let file = export::evidence(evidence.accused());
        files.0.insert(file.clone(), armor::write_evidence(evidence).into_bytes());
        file
    }

    /// SPEC 19.6.
    #[test]
    fn evidence_in_an_export_convicts_the_keys_that_it_is_about() {
        let world = World::of_all_kinds();
        let (mut files, bolt) = (world.export(&[]), "bolt".parse().unwrap());
        let file = put(&mut files, &against_log(&world));
        assert_eq!(file, "evidence/acme-0-log.evidence");
        let report = audit(&files, Some(world.network())).unwrap();
        assert_eq!((report.outcome(), report.is_whole()), (Outcome::Equivocation, true));
        let convicted = Finding::of(file.clone(), Fault::Proven(Accused::Log(world.log))).in_log(world.log);
        assert_eq!(report.findings, std::slice::from_ref(&convicted));
        let witness = put(&mut files, &against_witness(&world, bolt));
        assert_eq!(witness, "evidence/bolt-witness.evidence");
        let of_witness = Finding::of(witness, Fault::Proven(Accused::Witness(bolt)));
        assert_eq!(verify(&files, &world.federation), [convicted, of_witness]);

        // Under another name it proves the same, and is not as an export writes it.
        let mut renamed = world.export(&[]);
        renamed.0.insert("evidence/a".to_owned(), files.0[&file].clone());
        renamed.0.insert("evidence/b".to_owned(), files.0[&file].clone());
        let faults: Vec<_> = verify(&renamed, &world.federation).into_iter().map(|found| found.fault).collect();
        let proven = Fault::Proven(Accused::Log(world.log));
        assert_eq!(faults, [proven, Fault::NotAsWritten, Fault::NotAsWritten]);
    }

    /// SPEC 19.6: whatever becomes of a file of evidence, nobody else is accused by it, and damage is told.
    #[test]
    fn every_flipped_bit_of_evidence_is_found_and_accuses_nobody() {
        let world = World::of_all_kinds();
        let mut files = Memory::default();
        let evidence = against_log(&world);
        let file = put(&mut files, &evidence);
        let proven = Fault::Proven(Accused::Log(world.log));
        let whole = files.0[&file].clone();
        for bit in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let same = std::str::from_utf8(&changed).ok().and_then(|text| armor::read_evidence(text).ok());
            let same = same.is_some_and(|bytes| bytes == evidence.bytes());
            files.0.insert(file.clone(), changed);
            let faults: Vec<_> = verify(&files, &world.federation).into_iter().map(|finding| finding.fault).collect();
            if same {
                // Only what stands around it has changed.
                assert_eq!(faults, [proven.clone(), Fault::NotAsWritten], "{bit}");
            } else {
                let [Fault::NoEvidence(_) | Fault::Refused(_) | Fault::File(_)] = faults.as_slice() else {
                    panic!("{bit}: {faults:?}")
                };
            }
        }
    }

    #[test]
    fn what_is_no_evidence_is_told_and_accuses_nobody() {
        let world = World::of_all_kinds();
        let card =
            armor::write([&armor::Document::Card(Box::new(world.genesis.cards().values().next().unwrap().clone()))]);
        let twice = armor::write_evidence(&against_log(&world)).repeat(2);
        for (bytes, told) in [
            (Vec::new(), "accuses nobody: no -----BEGIN"),
            (b"a remark".to_vec(), "accuses nobody: no -----BEGIN"),
            (card.into_bytes(), "accuses nobody: not one"),
            (twice.into_bytes(), "accuses nobody: not one"),
            (vec![0xff; 9], "not UTF-8"),
            (vec![b' '; MAX_EVIDENCE_FILE + 1], "longer than"),
        ] {
            let mut files = world.export(&[]);
            files.0.insert(export::evidence(Accused::Log(world.log)), bytes);
            let report = audit(&files, Some(world.network())).unwrap();
            assert_eq!((report.outcome(), report.is_whole(), report.findings.len()), (Outcome::Broken, false, 1));
            assert!(report.findings[0].fault.to_string().contains(told), "{}", report.findings[0].fault);
        }
    }

    /// SPEC 19.8, 18.5.
    #[test]
    fn of_a_forked_log_the_list_has_what_is_settled() {
        let world = World::of_all_kinds();
        let mut files = world.export(&[]);
        let list = |files: &Memory| {
            let report = audit(files, Some(world.network())).unwrap();
            let list = crate::audit::list(files, &report, Timestamp(u64::MAX), |_| ()).unwrap();
            list.logs.iter().map(|log| log.size).collect::<Vec<_>>()
        };
        let mut unsettled = files.clone();
        let newest = world.checkpoint(10).note().to_string().into_bytes();
        unsettled.0.insert("logs/acme/0/checkpoint".to_owned(), newest);
        assert_eq!((list(&files), list(&unsettled)), (vec![10], vec![10]));
        put(&mut files, &against_log(&world));
        put(&mut unsettled, &against_log(&world));
        assert_eq!((list(&files), list(&unsettled)), (vec![10], Vec::new()));
    }
}
