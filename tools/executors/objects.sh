#!/usr/bin/env bash
# `data stage --share` over a real S3 server, moto's from PyPI: 1, 2 and 3 ranks, each in a project folder of
# its own, with nothing in common but the bucket that holds the texts, too; a rank killed (kill -9) while it
# pushes, two that push the same at once, a damaged object, a launcher that brings the result home; all bytes
# compared with the plain run. The server checks every signature, by Amazon's own code (botocore).
#
#   tools/executors/objects.sh PROGRAM        TEXT2LLM_MOTO_VENV: where moto is, or will be installed
#   [~/.cache/text2llm-moto]
set -euo pipefail
program=$(realpath "${1:?usage: objects.sh PROGRAM}")
source "$(dirname "$0")/project.sh"
need_programs
command -v curl >/dev/null || skip "there is no curl"

venv=${TEXT2LLM_MOTO_VENV:-$HOME/.cache/text2llm-moto}
if ! "$venv/bin/python" -c 'import moto.server, boto3' 2>/dev/null; then
  { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet "moto[s3,server]==5.*"; } >/dev/null 2>&1 ||
    skip "pip brought no moto"
fi
work=$(mktemp -d)
server=
cleanup() {
  [ -z "$server" ] || kill "$server" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

port=$("$venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
# Once there are a user with a policy and a key, and the bucket, requests must be signed.
INITIAL_NO_AUTH_ACTION_COUNT=4 "$venv/bin/python" -m moto.server -H 127.0.0.1 -p "$port" >"$work/moto.log" 2>&1 &
server=$!
export AWS_ENDPOINT_URL=http://127.0.0.1:$port AWS_ACCESS_KEY_ID=nobody AWS_SECRET_ACCESS_KEY=nothing AWS_REGION=us-east-1
unset AWS_PROFILE AWS_SESSION_TOKEN
until_says sh -c "grep 'Running on' '$work/moto.log' || true" || { cat "$work/moto.log"; skip "moto does not come up on this machine"; }

# Amazon's own client puts objects there, looks at them, and brings them back.
cat >"$work/bucket.py" <<'PYTHON'
import json, os, pathlib, sys
import boto3

what, *words = sys.argv[1:]
s3 = boto3.client("s3", region_name="us-east-1", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
pages = lambda prefix: s3.get_paginator("list_objects_v2").paginate(Bucket="lab", Prefix=prefix)
keys = lambda prefix: [found["Key"] for page in pages(prefix) for found in page.get("Contents", [])]
if what == "make":
    iam = boto3.client("iam", region_name="us-east-1", endpoint_url=os.environ["AWS_ENDPOINT_URL"])
    iam.create_user(UserName="lab")
    key = iam.create_access_key(UserName="lab")["AccessKey"]
    all_of_s3 = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
    iam.put_user_policy(UserName="lab", PolicyName="s3", PolicyDocument=json.dumps(all_of_s3))
    s3.create_bucket(Bucket="lab")
    print(f"AWS_ACCESS_KEY_ID={key['AccessKeyId']} AWS_SECRET_ACCESS_KEY={key['SecretAccessKey']}")
elif what == "put":
    folder, prefix = pathlib.Path(words[0]), words[1]
    for path in sorted(folder.rglob("*")):
        s3.upload_file(str(path), "lab", f"{prefix}/{path.relative_to(folder)}")
elif what == "get":
    prefix, folder = words[0], pathlib.Path(words[1])
    for key in keys(prefix + "/"):
        path = folder / key[len(prefix) + 1:]
        path.parent.mkdir(parents=True, exist_ok=True)
        s3.download_file("lab", key, str(path))
elif what == "list":
    print("\n".join(keys(words[0])))
elif what == "damage":
    body = bytearray(s3.get_object(Bucket="lab", Key=words[0])["Body"].read())
    body[len(body) // 2] ^= 1
    s3.put_object(Bucket="lab", Key=words[0], Body=bytes(body))
PYTHON
bucket() { "$venv/bin/python" "$work/bucket.py" "$@"; }
keys=$(bucket make)
# shellcheck disable=SC2163
export ${keys?}
echo "moto $("$venv/bin/python" -c 'import moto; print(moto.__version__)') (${SECONDS}s)"

folder="$work/a project"
make_project "$folder"
# A few dozen objects do: each is a process of curl's.
find "$folder/code" -type f ! -name 'corpus*' -delete
bucket put "$folder/texts" raw/texts
bucket put "$folder/code" raw/code
recipe="$work/recipe"
mkdir "$recipe"
sed 's|^paths = .*|paths = ["s3://lab/raw/texts/", "s3://lab/raw/code/*.txt"]|' "$folder/text2llm.toml" >"$recipe/text2llm.toml"
plain=$work/plain
TEXT2LLM_CACHE=$work/cache-plain "$program" data prepare "$recipe" --output-dir "$plain" >/dev/null 2>&1
echo "plain run done: $(bucket list raw/ | wc -l) objects (${SECONDS}s)"

# A machine is a folder with its own project and its own cache.
stage() {
  local machine=$1 share=$2
  shift 2
  TEXT2LLM_CACHE="$work/machines/$machine/cache" "$program" data stage "$@" "$recipe" --output-dir "$work/machines/$machine/project" --share "s3://lab/$share"
}
quietly() { stage "$@" >>"$work/log" 2>&1 || { tail -n 20 "$work/log"; echo "failed: $*" >&2; exit 1; }; }
after_filter() {
  local share=$1 of=$2 rank
  quietly "$share-documents" "$share" documents --of "$of"
  quietly "$share-tokenizer" "$share" tokenizer --of "$of"
  for ((rank = 0; rank < of; rank++)); do quietly "$share-encode-$rank" "$share" encode --rank "$rank" --of "$of" & jobs+=($!); done
  wait_all
  quietly "$share-tokens" "$share" tokens --of "$of"
  bucket get "$share" "$work/$share"
  compare "$plain" "$work/$share"
}
# All that were started with `&` since the last time, and each must end well.
jobs=()
wait_all() { local job; for job in "${jobs[@]}"; do wait "$job"; done; jobs=(); }

if AWS_SECRET_ACCESS_KEY=wrong stage wrong by-0 filter >"$work/told" 2>&1; then echo "a wrong key is taken" >&2; exit 1; fi
grep -q 'SignatureDoesNotMatch' "$work/told" || { cat "$work/told"; exit 1; }

for of in 1 2 3; do
  for ((rank = 0; rank < of; rank++)); do quietly "by-$of-filter-$rank" "by-$of" filter --rank "$rank" --of "$of" & jobs+=($!); done
  wait_all
  after_filter "by-$of" "$of"
  echo "$of ranks (${SECONDS}s)"
done
again=$(stage nobody by-3 tokens --of 3 --json 2>/dev/null | tail -n 1)
grep -q '"reused":true' <<<"$again" || { echo "done again: $again" >&2; exit 1; }

TEXT2LLM_CACHE="$work/machines/home/cache" "$program" data prepare --executor local --ranks 3 "$recipe" --output-dir "$work/machines/home/project" \
  --share s3://lab/by-3 >>"$work/log" 2>&1 || { tail -n 20 "$work/log"; exit 1; }
compare "$plain" "$work/machines/home/project"
echo "a launcher brings the result home (${SECONDS}s)"

echo "a rank is killed while it pushes"
mkdir "$work/bin"
cat >"$work/bin/curl" <<SH
#!/usr/bin/env bash
case "\$*" in
  *--upload-file*report.json*) touch '$work/reached'; exec sleep 600 ;;
esac
exec "$(command -v curl)" "\$@"
SH
chmod +x "$work/bin/curl"
PATH="$work/bin:$PATH" TEXT2LLM_CACHE="$work/machines/killed/cache" "$program" data stage filter "$recipe" --rank 1 --of 2 \
  --output-dir "$work/machines/killed/project" --share s3://lab/killed >/dev/null 2>&1 &
rank=$!
until_says sh -c "ls '$work/reached' 2>/dev/null || true"
sleeper=$(pgrep -P "$rank")
kill -9 "$rank" "$sleeper"
wait "$rank" 2>/dev/null || true
there=$(bucket list killed/)
[ "$there" = killed/data/ranks/filter-00001-of-00002/decisions.jsonl.zst ] || { echo "in the bucket: $there" >&2; exit 1; }
quietly killed-0 killed filter --rank 0 --of 2
if stage killed-documents killed documents --of 2 >"$work/told" 2>&1; then echo "documents without rank 1" >&2; exit 1; fi
grep -q 'rank 1 is missing' "$work/told" || { cat "$work/told"; exit 1; }
# Again, and on another machine at the same time.
quietly killed killed filter --rank 1 --of 2 & jobs+=($!)
quietly killed-too killed filter --rank 1 --of 2 & jobs+=($!)
wait_all

echo "an object is damaged"
bucket damage killed/data/ranks/filter-00000-of-00002/decisions.jsonl.zst
if stage reader killed documents --of 2 >"$work/told" 2>&1; then echo "documents from damaged decisions" >&2; exit 1; fi
grep -q 's3://lab/killed/data/ranks/filter-00000-of-00002/decisions.jsonl.zst. has a different BLAKE3 hash' "$work/told" || { cat "$work/told"; exit 1; }
quietly elsewhere killed filter --rank 0 --of 2
after_filter killed 2
echo "done (${SECONDS}s)"
