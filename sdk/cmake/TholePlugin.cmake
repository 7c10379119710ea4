# thole_add_plugin(NAME ID id PROVIDES kind VERSION version SOURCES file... [LINK library...] [FOLDER folder])
#
# A plugin as the loader accepts it: one exported symbol, no unwinder, search path or executable stack of its own, never
# unmapped; and beside it the manifest NAME.yaml with the digest of its bytes, written when it has been linked. Both lie in
# FOLDER (default: ${THOLE_PLUGIN_OUTPUT}, or plugins/ of the build tree), which only its owner may write.
#
# It is installed to lib/thole/plugins with NAME.yaml. As a file, not as a target: `cmake --install --strip` must not
# change bytes that have been digested.
set(THOLE_PLUGIN_MODULE_DIR ${CMAKE_CURRENT_LIST_DIR} CACHE INTERNAL "")

function(thole_add_plugin name)
  cmake_parse_arguments(arg "" "ID;PROVIDES;VERSION;FOLDER" "SOURCES;LINK" ${ARGN})
  foreach(needed ID PROVIDES VERSION SOURCES)
    if(NOT arg_${needed})
      message(FATAL_ERROR "thole_add_plugin(${name}): ${needed} is missing")
    endif()
  endforeach()
  if(NOT arg_FOLDER AND THOLE_PLUGIN_OUTPUT)
    set(arg_FOLDER ${THOLE_PLUGIN_OUTPUT})
  elseif(NOT arg_FOLDER)
    set(arg_FOLDER ${CMAKE_BINARY_DIR}/plugins)
  endif()

  add_library(${name} MODULE ${arg_SOURCES})
  target_link_libraries(${name} PRIVATE thole::abi ${arg_LINK})
  # So that the table can say what the manifest says.
  target_compile_definitions(${name} PRIVATE THOLE_ENABLE_DRAFT THOLE_PLUGIN_ID="${arg_ID}"
    THOLE_PLUGIN_VERSION="${arg_VERSION}")
  set_target_properties(${name} PROPERTIES PREFIX "lib" NO_SONAME ON SKIP_BUILD_RPATH ON
    C_VISIBILITY_PRESET hidden CXX_VISIBILITY_PRESET hidden VISIBILITY_INLINES_HIDDEN ON
    POSITION_INDEPENDENT_CODE ON LIBRARY_OUTPUT_DIRECTORY ${arg_FOLDER}
    LINK_DEPENDS ${THOLE_PLUGIN_MODULE_DIR}/plugin.map)
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${name} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fno-gnu-unique>)
  endif()
  target_link_options(${name} PRIVATE -Wl,--version-script=${THOLE_PLUGIN_MODULE_DIR}/plugin.map
    -Wl,-z,defs,-z,now,-z,relro,-z,nodelete,-z,noexecstack -Wl,--exclude-libs,ALL)
  # libstdc++ inside and hidden, the unwinder the system's. Sanitizers need their own shared runtime instead.
  if(NOT THOLE_SANITIZE)
    target_link_options(${name} PRIVATE $<$<LINK_LANGUAGE:CXX>:-static-libstdc++> -shared-libgcc)
  endif()

  set(manifest ${arg_FOLDER}/${name}.yaml)
  add_custom_command(TARGET ${name} POST_BUILD BYPRODUCTS ${manifest} VERBATIM
    COMMAND ${CMAKE_COMMAND} -DLIBRARY=$<TARGET_FILE:${name}> -DMANIFEST=${manifest} -DID=${arg_ID}
      -DPROVIDES=${arg_PROVIDES} -DVERSION=${arg_VERSION} -DMACHINE=${CMAKE_SYSTEM_PROCESSOR}
      "-DHEADERS=$<JOIN:$<TARGET_PROPERTY:thole::abi,INTERFACE_INCLUDE_DIRECTORIES>,|>"
      -P ${THOLE_PLUGIN_MODULE_DIR}/TholeManifest.cmake)
  install(FILES $<TARGET_FILE:${name}> ${manifest} DESTINATION lib/thole/plugins)
endfunction()
