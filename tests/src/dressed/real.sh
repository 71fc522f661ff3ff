# The headers or the image's files of the real kernel, with another release: headers|image DIRECTORY RELEASE
set -eu
part=$1 dir=$2 release=$3
mkdir -p "$dir"
tar -x -C "$dir" --strip-components=1 -f /opt/kernel.tar "$part"
[ "$part" = headers ] || exit 0
echo "$release" >"$dir/include/config/kernel.release"
echo "#define UTS_RELEASE \"$release\"" >"$dir/include/generated/utsrelease.h"
