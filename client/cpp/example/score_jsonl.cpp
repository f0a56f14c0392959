// Reads conversations as lines of JSON from standard input, as they come, and writes a line for each result as it is ready.

#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <utility>
#include <variant>

#include "arguments.h"
#include "lines.h"
#include "rm_grpc_client/client.h"

namespace {

constexpr int kStreamFailed = 1, kWrongArguments = 2;

void write(const std::string& line) { std::cout << line << std::endl; }

bool is_blank(const std::string& line) { return line.find_first_not_of(" \t\r\n\v\f") == std::string::npos; }

void read_input(rm_grpc::Stream& stream) {
    for (std::string text; std::getline(std::cin, text);) {
        if (is_blank(text)) continue;
        auto line = read_line(std::move(text));
        if (const auto* cancel = std::get_if<CancelLine>(&line))
            stream.cancel(cancel->id);
        else
            stream.send(std::get<rm_grpc::Item>(std::move(line)));
    }
    stream.finish();
}

void run(const rm_grpc::Client& client) {
    auto stream = client.open_stream();
    std::thread reader([&stream] {
        try {
            read_input(stream);
        } catch (const rm_grpc::StreamError&) {
            // the other thread meets it too, and tells it
        }
    });
    try {
        while (const auto result = stream.next()) write(write_result(*result));
    } catch (const rm_grpc::StreamError& error) {
        write(write_stream_error(error.error()));
        std::_Exit(kStreamFailed);  // standard input may block for ever, so nobody waits for the thread that reads it
    }
    reader.join();
}

}  // namespace

int main(int count, char** arguments) {
    std::ios::sync_with_stdio(false);
    std::cin.tie(nullptr);  // or the thread that reads would flush the output of the other
    try {
        run(rm_grpc::Client(read_arguments(count, arguments)));
    } catch (const UsageError& error) {
        std::cerr << "score-jsonl: " << error.what() << '\n';
        return kWrongArguments;
    } catch (const rm_grpc::SettingsError& error) {
        std::cerr << "score-jsonl: " << error.what() << '\n';
        return kWrongArguments;
    }
    return 0;
}
