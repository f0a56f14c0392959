// Whom a client asks, and how.
#pragma once

#include <optional>
#include <string>

#include "rm_grpc_client/options.h"
#include "rm_grpc_client/seconds.h"

namespace rm_grpc {

/// The settings of a client.
struct Settings {
    /// host:port of the server.
    std::string address = "127.0.0.1:50051";
    /// The model to ask; may be empty where only one is served.
    std::string model = {};
    ScoreOptions options = {};
    Ordering ordering = Ordering::completion;
    /// How long each item may take; an item's own wins. None waits for ever.
    std::optional<Seconds> timeout = Seconds(600);
    /// How long a lost server, or one that cannot score, is tried.
    Seconds reconnect = Seconds(60);
    /// How often an item is tried that the server has no room for, or is lost with.
    int attempts = 20;

    /// Encrypts; so does any of the next four.
    bool tls = false;
    /// PEM of the authorities that the server's certificate may come from; the system's where it is empty.
    std::string ca_file = {};
    /// PEM of the client's own certificate and key: both or neither.
    std::string cert_file = {};
    std::string key_file = {};
    /// The name that the server's certificate must have; the address's host where it is empty.
    std::string server_name = {};
    /// Sent with every call as `authorization: Bearer TOKEN`. Without TLS it goes to this machine only.
    std::string token = {};
    /// Lets a token leave this machine without TLS.
    bool insecure = false;
};

}  // namespace rm_grpc
