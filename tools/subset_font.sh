#!/usr/bin/env bash
# The plot font: Roboto Regular (Apache-2.0, Google) from Debian's fonts-roboto-unhinted, cut down to the
# Latin, Greek and Cyrillic letters and the signs that titles and axes use. Needs apt-get, dpkg-deb and PyPI
# fonttools (`pyftsubset` on the path).
#
#     tools/subset_font.sh
set -euo pipefail
cd "$(dirname "$0")/.."
out=$PWD/crates/formats/assets/roboto-subset.ttf
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
apt-get download fonts-roboto-unhinted
dpkg-deb -x fonts-roboto-unhinted_*.deb .
pyftsubset usr/share/fonts/truetype/roboto/unhinted/RobotoTTF/Roboto-Regular.ttf --output-file="$out" \
  --unicodes='U+20-7E,U+A0-17F,U+370-3FF,U+400-45F,U+2010-2026,U+2030,U+2212,U+2248,U+2264-2265' \
  --layout-features='' --drop-tables+=GPOS,GSUB,GDEF,DSIG,hdmx,VDMX,gasp --no-hinting --desubroutinize --name-IDs='*' --no-recalc-timestamp
ls -l "$out"
