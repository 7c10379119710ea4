# cmake -DLIBRARY=... -DMANIFEST=... -DID=... -DPROVIDES=... -DVERSION=... -DMACHINE=... -DHEADERS=a|b -P TholeManifest.cmake
# writes the manifest of a plugin that has just been linked. The contract's version is that of the headers it saw.
string(REPLACE "|" ";" folders "${HEADERS}")
foreach(folder ${folders})
  if(EXISTS ${folder}/thole/base.h)
    file(STRINGS ${folder}/thole/base.h lines REGEX "^#define THOLE_ABI_(MAJOR|MINOR) ")
    break()
  endif()
endforeach()
if(NOT lines MATCHES "THOLE_ABI_MAJOR ([0-9]+)u?.*THOLE_ABI_MINOR ([0-9]+)u?")
  message(FATAL_ERROR "thole/base.h is in none of ${HEADERS}")
endif()
set(abi "${CMAKE_MATCH_1}.${CMAKE_MATCH_2}")

# Whatever the umask: the loader takes only what nobody but the owner may write.
get_filename_component(folder ${LIBRARY} DIRECTORY)
file(CHMOD ${folder} DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
  WORLD_READ WORLD_EXECUTE)
file(SHA256 ${LIBRARY} digest)
get_filename_component(file ${LIBRARY} NAME)
file(WRITE ${MANIFEST} "apiVersion: thole.dev/v1alpha1
kind: Plugin
id: ${ID}
provides: ${PROVIDES}
version: \"${VERSION}\"
abi: \"${abi}\"
library: ${file}
machine: ${MACHINE}
sha256: \"${digest}\"
")
file(CHMOD ${LIBRARY} ${MANIFEST} FILE_PERMISSIONS OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
