"""Uses a session of AWS, which it reads as a ``credential_process`` prints it: ``aws_uses.py URL``."""

import json
import os
import sys

told = json.loads(sys.stdin.read() or sys.exit("no session"))
os.environ |= {"AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null"}

from awscli.botocore.session import Session  # noqa: E402 - it would read the user's files

session = Session()
session.set_credentials(told["AccessKeyId"], told["SecretAccessKey"], told["SessionToken"])
print(session.create_client("s3", endpoint_url=sys.argv[1], region_name="us-east-1").list_buckets()["Buckets"])
