//! What the reports of readers change.

use pathpulse_kernel_compat::{Errno, KernelError};

use super::{Readers, Shared};
use crate::config::StartError;
use crate::reader::message::{CommandMsg, ReportMsg, VERSION};
use crate::reader::process::{OpenReport, OpenedBy, Request};
use crate::status::{Event, NameDecision, PathId, StatusCell};

impl Shared {
    pub(super) fn handle(&self, state: &mut Readers, index: usize, report: ReportMsg) {
        let reader = &mut state.readers[index];
        match report {
            ReportMsg::Ready { version, backend } => {
                let started = check_version(version);
                reader.backend = started.is_ok().then_some(backend);
                if let Some(starting) = &state.starting {
                    let _ = starting.send(started);
                }
            }
            ReportMsg::NotStarted(error) => match &state.starting {
                Some(starting) => drop(starting.send(Err(error))),
                None => tracing::error!(%error, "a reader did not start"),
            },
            ReportMsg::BackendChanged(backend) => reader.backend = Some(backend),
            ReportMsg::Opened { id, device } => {
                let id = PathId::from_number(id);
                let report = OpenReport::Opened(OpenedBy {
                    device: Box::new(device),
                    reader: reader.child.pid(),
                });
                let opening = reader.opening.remove(&id);
                // Nobody may wait for it any more.
                if opening.is_none_or(|opening| opening.reports.send((id, report)).is_err()) {
                    reader.send(&CommandMsg::Discard { id: id.number() });
                }
            }
            ReportMsg::OpenFailed { id, problem } => {
                let id = PathId::from_number(id);
                if let Some(opening) = reader.opening.remove(&id) {
                    let _ = opening.reports.send((id, OpenReport::Failed(problem)));
                }
            }
            ReportMsg::LeadsTo { id, device } => {
                let path = PathId::from_number(id);
                let answer = self.registry.write().decide_reopened(path, &device);
                let record = reader.paths.get_mut(&path);
                if let Some(record) = record.filter(|_| answer == NameDecision::Follow) {
                    record.device = device;
                }
                reader.send(&CommandMsg::NameAnswer { id, answer });
            }
            ReportMsg::NameSame { id } => {
                self.registry
                    .write()
                    .clear_elsewhere(PathId::from_number(id));
            }
            ReportMsg::Details { id, details } => {
                let id = PathId::from_number(id);
                if let Some(record) = reader.paths.get_mut(&id) {
                    record.device.details = details.clone();
                }
                self.registry.write().set_details(id, details);
            }
            ReportMsg::Event {
                id,
                time,
                from,
                to,
                cause,
                detail,
            } => {
                let id = PathId::from_number(id);
                let Some(record) = reader.paths.get_mut(&id) else {
                    return;
                };
                record.shown = to;
                let info = self.registry.write().cell(id).map(StatusCell::info);
                let event = info.map(|path| Event {
                    time,
                    id,
                    path,
                    from,
                    to,
                    cause,
                    detail,
                });
                if let Some(event) = event {
                    state.subscribers.retain(|one| one.send(&event));
                }
            }
            ReportMsg::Lost { events } => {
                tracing::error!(events, "a reader lost events");
            }
            ReportMsg::Closed { request } => {
                reader.requests.remove(&request);
            }
            ReportMsg::Pong { request } => match reader.requests.remove(&request) {
                Some(Request::Answer(reply)) => drop(reply.send(())),
                Some(Request::Unused(slot, cell)) => reader.slots.rest(slot, cell),
                Some(Request::Closed(_)) | None => {}
            },
            ReportMsg::Stopped { held } => {
                if let Some(stopping) = &state.stopping {
                    let _ = stopping.send(held);
                }
            }
        }
    }
}

fn check_version(version: u32) -> Result<(), StartError> {
    if version == VERSION {
        return Ok(());
    }
    let error = KernelError::new("execve", Errno::EPROTO);
    let error = error.hint("the reader is another version of the program");
    Err(StartError::NoThread(error))
}
