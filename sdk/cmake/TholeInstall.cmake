# What `cmake --install` puts where: headers, the library, the CMake package, pkg-config's file. Plugins install themselves.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

# The loader takes only folders that nobody but their owner may write, whatever the umask.
set(CMAKE_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE
  WORLD_READ WORLD_EXECUTE)
set(thole_package ${CMAKE_INSTALL_LIBDIR}/cmake/thole)
set(thole_cmake ${CMAKE_CURRENT_LIST_DIR})

set_target_properties(thole_abi PROPERTIES EXPORT_NAME abi)
install(DIRECTORY ${PROJECT_SOURCE_DIR}/abi/include/thole DESTINATION include FILES_MATCHING PATTERN "*.h")
install(TARGETS thole thole_abi EXPORT thole LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT thole NAMESPACE thole:: FILE TholeTargets.cmake DESTINATION ${thole_package})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/thole-config-version.cmake COMPATIBILITY SameMinorVersion)
configure_package_config_file(${thole_cmake}/thole-config.cmake.in ${PROJECT_BINARY_DIR}/thole-config.cmake
  INSTALL_DESTINATION ${thole_package})
install(FILES ${PROJECT_BINARY_DIR}/thole-config.cmake ${PROJECT_BINARY_DIR}/thole-config-version.cmake
  ${thole_cmake}/TholePlugin.cmake ${thole_cmake}/TholeManifest.cmake ${thole_cmake}/plugin.map
  DESTINATION ${thole_package})
# From where the file lies back to the prefix, so that a tree can be moved (lib may be lib/x86_64-linux-gnu).
file(RELATIVE_PATH thole_up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
# The contract's version, for the manifests of plugins that are built without CMake.
file(STRINGS ${PROJECT_SOURCE_DIR}/abi/include/thole/base.h thole_versions REGEX "^#define THOLE_ABI_(MAJOR|MINOR) ")
string(REGEX REPLACE "[^0-9;]" "" thole_versions "${thole_versions}")
list(JOIN thole_versions . thole_contract)
configure_file(${thole_cmake}/thole.pc.in ${PROJECT_BINARY_DIR}/thole.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/thole.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)

# What is installed names no folder of the machine that built it, not even for debuggers (sdk/setup/build maps the rest).
set_property(SOURCE ${PROJECT_SOURCE_DIR}/sdk/src/base/yaml.cc TARGET_DIRECTORY thole_base
  APPEND PROPERTY COMPILE_OPTIONS -ffile-prefix-map=${THOLE_STATIC}=static)
