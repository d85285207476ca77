// Prints the credentials that the default chain of the AWS SDK for JavaScript finds, and the ARN that STS returns for them:
// client_javascript.mjs AWS_ENDPOINT

import { createRequire } from "node:module";

// The packages are in target/node, where `import` does not look.
const require = createRequire(new URL("../../target/node/", import.meta.url));
const { STSClient, GetCallerIdentityCommand } = require("@aws-sdk/client-sts");

const client = new STSClient({ region: "us-east-1", endpoint: process.argv[2] });
try {
    const credentials = await client.config.credentials();
    const caller = await client.send(new GetCallerIdentityCommand({}));
    console.log(
        JSON.stringify({
            AccessKeyId: credentials.accessKeyId,
            SecretAccessKey: credentials.secretAccessKey,
            Token: credentials.sessionToken,
            Arn: caller.Arn,
        }),
    );
} catch (error) {
    console.error(`${error.name}: ${error.message}`);
    process.exitCode = 1;
}
