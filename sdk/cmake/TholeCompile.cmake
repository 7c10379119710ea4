# How everything is compiled. A target takes it by linking thole_compile.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE RelWithDebInfo)
endif()

find_program(THOLE_CCACHE ccache)
if(THOLE_CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${THOLE_CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${THOLE_CCACHE})
endif()

add_library(thole_compile INTERFACE)
target_compile_options(thole_compile INTERFACE -Wall -Wextra -Wpedantic -Wconversion -Werror
  -fno-semantic-interposition -ffile-prefix-map=${CMAKE_SOURCE_DIR}=.)
# No STB_GNU_UNIQUE: such a symbol would be shared with every other copy in the process. (clang never makes one.)
# With -O2 gcc 12 takes a concatenation of strings for an overlapping copy (its bug 105651), and a moved string for one
# without a bound.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(thole_compile INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fno-gnu-unique>
    -Wno-restrict -Wno-stringop-overread)
endif()
if(THOLE_SANITIZE)
  target_compile_options(thole_compile INTERFACE -fsanitize=${THOLE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(thole_compile INTERFACE -fsanitize=${THOLE_SANITIZE})
endif()

# A shared object that a host loads: only what the version script lists is exported, nothing is left undefined or lazy, the
# code is never unmapped. libstdc++ is static and hidden, libgcc_s is the system's: an exception caught on one side of
# a boundary must not abort because of a second unwinder. Sanitizers need the shared runtime instead.
function(thole_loadable target map)
  target_link_options(${target} PRIVATE -Wl,--version-script=${map} -Wl,-z,defs,-z,now,-z,relro,-z,nodelete
    -Wl,-Bsymbolic -Wl,--exclude-libs,ALL -Wl,--gc-sections)
  set_property(TARGET ${target} APPEND PROPERTY LINK_DEPENDS ${map})
  if(THOLE_SANITIZE)
    return()
  endif()
  target_link_options(${target} PRIVATE -static-libstdc++ -shared-libgcc)
endfunction()
