#!/usr/bin/env bash
# moto honours conditional writes by PutObject and CompleteMultipartUpload, and ignores them for CopyObject.
#
# Seen:    moto 5.2.5 with boto3 1.43.11 (PyPI), Python 3.11.
# Guessed: a simulator that answers 412 to PutObject with If-None-Match does so for CopyObject, too, whose model has the same two
#          members since 2025.
# Is:      CopyObject with If-None-Match: * over an existing key, or with an If-Match that does not match, answers 200 and overwrites.
# Matters: a commit to an object store that is made by a guarded copy passes its tests against moto although nothing guards it.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
python3 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --disable-pip-version-check 'moto[s3]==5.2.5' boto3==1.43.11
"$tmp/venv/bin/python" - <<'END' | tee "$tmp/seen"
import boto3
from botocore.exceptions import ClientError
from moto import mock_aws


def status(call):
    try:
        return call()["ResponseMetadata"]["HTTPStatusCode"]
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"]


with mock_aws():
    s3 = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="y")
    s3.create_bucket(Bucket="commits")
    s3.put_object(Bucket="commits", Key="staged", Body=b"new")
    s3.put_object(Bucket="commits", Key="head", Body=b"old")
    to = {"Bucket": "commits", "Key": "head"}
    wrong = '"00000000000000000000000000000000"'
    print("put, none match:", status(lambda: s3.put_object(**to, Body=b"put", IfNoneMatch="*")))
    print("put, match:", status(lambda: s3.put_object(**to, Body=b"put", IfMatch=wrong)))
    print("copy, none match:", status(lambda: s3.copy_object(**to, CopySource="commits/staged", IfNoneMatch="*")))
    print("head:", s3.get_object(**to)["Body"].read().decode())
    s3.put_object(**to, Body=b"old")
    print("copy, match:", status(lambda: s3.copy_object(**to, CopySource="commits/staged", IfMatch=wrong)))
    print("head:", s3.get_object(**to)["Body"].read().decode())
END
diff - "$tmp/seen" <<'END'
put, none match: 412
put, match: 412
copy, none match: 200
head: new
copy, match: 200
head: new
END
