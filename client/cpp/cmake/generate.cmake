# Code from the contract, made at build time.

find_program(RM_GRPC_PROTOC protoc REQUIRED)
find_program(RM_GRPC_PLUGIN grpc_cpp_plugin REQUIRED)

find_path(RM_GRPC_GOOGLEAPIS google/rpc/error_details.proto
  PATHS "${CMAKE_CURRENT_SOURCE_DIR}/../../build/googleapis" /usr/lib/python3/dist-packages
  NO_DEFAULT_PATH
  DOC "Folder with google/rpc/status.proto and error_details.proto")
if(NOT RM_GRPC_GOOGLEAPIS)
  message(FATAL_ERROR "google/rpc/error_details.proto is missing: run `make build/googleapis` in the root of the repository, install "
    "python3-googleapis-common-protos, or name a folder that has it with -DRM_GRPC_GOOGLEAPIS=FOLDER")
endif()

# rm_grpc_generate(TARGET IMPORT folder PROTOS file... SERVICES file...): an object library of the messages and services of these
# files below that folder, and of the google.rpc messages that they use.
function(rm_grpc_generate target)
  cmake_parse_arguments(PARSE_ARGV 1 given "" "IMPORT" "PROTOS;SERVICES")
  set(out "${CMAKE_CURRENT_BINARY_DIR}/generated")
  file(MAKE_DIRECTORY "${out}")
  set(all ${given_PROTOS} ${given_SERVICES})
  list(TRANSFORM all PREPEND "${given_IMPORT}/" OUTPUT_VARIABLE contract)
  if(NOT RM_GRPC_GOOGLE_RPC)
    list(APPEND all google/rpc/status.proto google/rpc/error_details.proto)
  endif()
  foreach(proto IN LISTS all)
    string(REGEX REPLACE "\\.proto$" "" stem "${proto}")
    set(made "${out}/${stem}.pb.cc" "${out}/${stem}.pb.h")
    set(flags "--cpp_out=${out}")
    if(proto IN_LIST given_SERVICES)
      list(APPEND made "${out}/${stem}.grpc.pb.cc" "${out}/${stem}.grpc.pb.h")
      list(APPEND flags "--grpc_out=${out}" "--plugin=protoc-gen-grpc=${RM_GRPC_PLUGIN}")
    endif()
    add_custom_command(
      OUTPUT ${made}
      COMMAND ${RM_GRPC_PROTOC} "-I${given_IMPORT}" "-I${RM_GRPC_GOOGLEAPIS}" ${flags} ${proto}
      DEPENDS ${contract}
      COMMENT "Generating ${stem}"
      VERBATIM)
    list(APPEND sources ${made})
  endforeach()
  add_library(${target} OBJECT ${sources})
  target_compile_features(${target} PUBLIC cxx_std_20)
  set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE ON)
  target_include_directories(${target} SYSTEM PUBLIC "${out}")
  target_link_libraries(${target} PUBLIC rm_grpc::grpc ${RM_GRPC_GOOGLE_RPC})
endfunction()
