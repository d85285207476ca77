//! The common part of the two stand-ins for a host's metadata service, `HostMetadata` and `Upstream`: it records requests and
//! points ec2-role to the service.

use std::sync::Arc;

use super::loopback::{Connection, Loopback, Request};
use super::{PortState, Start, Watched};

pub struct MetadataService<State> {
    service: Loopback,
    requests: Arc<Watched<Vec<Request>>>,
    pub state: Arc<State>,
}

impl<State: Send + Sync + 'static> MetadataService<State> {
    pub fn answering(state: State, answer: fn(&State, &Request, &mut Connection)) -> Self {
        let state = Arc::new(state);
        let requests = Arc::<Watched<Vec<Request>>>::default();
        let (of_service, kept) = (Arc::clone(&state), Arc::clone(&requests));
        let service = Loopback::start(move |request, connection| {
            kept.change(|requests| requests.push(request.clone()));
            answer(&of_service, &request, connection);
        });
        MetadataService {
            service,
            requests,
            state,
        }
    }

    pub fn url(&self) -> String {
        self.service.url()
    }

    pub fn set_port_state(&self, state: PortState) {
        self.service.set_port_state(state);
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.look(Clone::clone)
    }

    /// Waits until the service has received this many requests since its start.
    #[track_caller]
    pub fn wait_for_requests(&self, number: usize) {
        self.requests.wait("a request for metadata", |requests| {
            (requests.len() >= number).then_some(())
        });
    }

    /// Makes ec2-role use this service as the host's metadata service.
    pub fn known_to(&self, start: Start) -> Start {
        start
            .without_variable("AWS_EC2_METADATA_DISABLED")
            .variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", &self.url())
    }
}
