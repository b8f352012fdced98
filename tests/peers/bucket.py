"""An S3 server for the tests, which checks signatures. Prints one line of JSON: where it is and who may use it. Then it
answers the lines that it reads: `list` with the objects of the bucket, `uploads` with the unfinished uploads. It ends with
its standard input."""

import json
import os
import sys

BUCKET = "segue-tests"
# Making the user and the bucket needs no signature; everything after that does.
SETUP = 4
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = str(SETUP)
os.environ["MOTO_ALLOW_NONEXISTENT_REGION"] = "true"

import boto3  # noqa: E402
from moto.server import ThreadedMotoServer  # noqa: E402
from moto.s3.models import s3_backends  # noqa: E402

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
url = f"http://127.0.0.1:{port}"
common = dict(endpoint_url=url, region_name="us-east-1", aws_access_key_id="nobody", aws_secret_access_key="nothing")
iam = boto3.client("iam", **common)
iam.create_user(UserName="segue")
key = iam.create_access_key(UserName="segue")["AccessKey"]
allowed = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
iam.put_user_policy(UserName="segue", PolicyName="files", PolicyDocument=json.dumps(allowed))
boto3.client("s3", **common).create_bucket(Bucket=BUCKET)
told = {"url": url, "bucket": BUCKET, "id": key["AccessKeyId"], "secret": key["SecretAccessKey"]}
print(json.dumps(told), flush=True)

for line in sys.stdin:
    backend = next(iter(s3_backends.values()))["aws"]
    bucket = backend.buckets[BUCKET]
    if line.strip() == "list":
        answer = [{"key": name, "size": bucket.keys[name].size} for name in bucket.keys.keys()]
    else:
        answer = len(bucket.multiparts)
    print(json.dumps(answer), flush=True)
server.stop()
