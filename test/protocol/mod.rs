mod any_head;
mod any_request;
mod conformance;
mod container_form;
mod pass_through;
mod same_network;
mod serving;
