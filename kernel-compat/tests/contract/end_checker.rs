//! Checks promise 1 of the contract in every scenario: one end each, and `Late` only after
//! `Expired`.

use std::collections::HashMap;

use pathpulse_kernel_compat::{Completion, Op, OpId, Outcome};

#[derive(Default)]
pub(crate) struct EndChecker {
    accepted: HashMap<OpId, Entry>,
}

struct Entry {
    op: Op,
    end: Option<Outcome>,
    late: bool,
}

impl EndChecker {
    pub(crate) fn accept(&mut self, id: OpId, op: Op) {
        let entry = Entry {
            op,
            end: None,
            late: false,
        };
        let old = self.accepted.insert(id, entry);
        assert!(old.is_none(), "{id:?} was returned twice");
    }

    pub(crate) fn complete(&mut self, completion: &Completion) {
        let entry = self
            .accepted
            .get_mut(&completion.id)
            .unwrap_or_else(|| panic!("{completion:?} belongs to no operation"));
        assert_eq!(completion.token, entry.op.token, "{completion:?}");
        if let Outcome::Late(_) = completion.outcome {
            assert!(
                matches!(entry.end, Some(Outcome::Expired(_))) && !entry.late,
                "{completion:?} after {:?}",
                entry.end
            );
            entry.late = true;
            return;
        }
        assert_eq!(entry.end, None, "{completion:?} is a second end");
        if matches!(
            completion.outcome,
            Outcome::Expired(_) | Outcome::NotStarted
        ) {
            assert!(
                completion.at >= entry.op.deadline,
                "{completion:?} before its deadline"
            );
        }
        entry.end = Some(completion.outcome);
    }

    /// How many operations have not ended.
    pub(crate) fn open_count(&self) -> usize {
        self.accepted
            .values()
            .filter(|entry| entry.end.is_none())
            .count()
    }
}
