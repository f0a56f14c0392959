// Lines of JSON: items in, results out.
#pragma once

#include <string>
#include <variant>

#include "rm_grpc_client/error.h"
#include "rm_grpc_client/item.h"
#include "rm_grpc_client/result.h"

/// A line that takes items back.
struct CancelLine {
    std::string id;
};

/// What a line says. A line that is neither is an item whose input is the error, with its id where it has one.
std::variant<rm_grpc::Item, CancelLine> read_line(std::string text);

std::string write_result(const rm_grpc::Result& result);
std::string write_stream_error(const rm_grpc::Error& error);
