//! Stores an object with the credential that object_store (the S3 client of polars, deltalake and datafusion) finds in its
//! environment, then prints the credential. Usage: client_object_store AWS_ENDPOINT BUCKET

use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStoreExt, PutPayload, path::Path};
use std::error::Error;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    rustls::crypto::ring::default_provider()
        .install_default()
        .map_err(|_| "rustls has a provider already")?;
    let mut arguments = std::env::args().skip(1);
    let (Some(endpoint), Some(bucket)) = (arguments.next(), arguments.next()) else {
        return Err("usage: client_object_store AWS_ENDPOINT BUCKET".into());
    };
    let store = AmazonS3Builder::from_env()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_bucket_name(bucket)
        .build()?;

    let credential = store.credentials().get_credential().await?;
    store
        .put(&Path::from("object_store"), PutPayload::from_static(b"x"))
        .await?;

    println!(
        "{}",
        serde_json::json!({
            "AccessKeyId": credential.key_id,
            "SecretAccessKey": credential.secret_key,
            "Token": credential.token,
        })
    );
    Ok(())
}
