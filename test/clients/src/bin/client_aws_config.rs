//! Prints the credentials that the default chain of the AWS SDK for Rust finds, STS's ARN for them, and the region.
//! Usage: client_aws_config AWS_ENDPOINT

use aws_config::{BehaviorVersion, Region};
use aws_sdk_sts::config::ProvideCredentials;
use std::error::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let aws_endpoint = std::env::args()
        .nth(1)
        .ok_or("usage: client_aws_config AWS_ENDPOINT")?;
    let found = aws_config::defaults(BehaviorVersion::latest())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .load()
        .await;
    let credentials = found
        .credentials_provider()
        .ok_or("no credentials provider")?
        .provide_credentials()
        .await?;

    let region = found
        .region()
        .cloned()
        .unwrap_or(Region::from_static("us-east-1"));
    let sts = aws_sdk_sts::Config::from(&found)
        .to_builder()
        .region(region)
        .endpoint_url(aws_endpoint)
        .build();
    let caller = aws_sdk_sts::Client::from_conf(sts)
        .get_caller_identity()
        .send()
        .await?;

    println!(
        "{}",
        serde_json::json!({
            "AccessKeyId": credentials.access_key_id(),
            "SecretAccessKey": credentials.secret_access_key(),
            "Token": credentials.session_token(),
            "Region": found.region().map(Region::as_ref),
            "Arn": caller.arn(),
        })
    );
    Ok(())
}
