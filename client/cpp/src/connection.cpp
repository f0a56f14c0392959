#include "connection.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <algorithm>
#include <fstream>
#include <sstream>
#include <utility>

#include "address.h"
#include "convert.h"
#include "rm_grpc_client/error.h"
#include "session.h"

namespace rm_grpc {

namespace {

bool has_tls(const Settings& settings) {
    return settings.tls || !settings.ca_file.empty() || !settings.cert_file.empty() || !settings.key_file.empty() ||
           !settings.server_name.empty();
}

void check(const Settings& settings) {
    const auto require = [](bool holds, const char* field, const char* message) {
        if (!holds) throw SettingsError(field, message);
    };
    const auto is_time = [](Seconds time) { return time >= Seconds::zero() && time < kLongestDuration; };
    require(!settings.address.empty(), "address", "name a server, as host:port");
    require(!settings.timeout || is_time(*settings.timeout), "timeout",
            "must not be negative, nor 10,000 years; none waits for ever");
    require(is_time(settings.reconnect), "reconnect", "must not be negative, nor 10,000 years");
    require(settings.attempts >= 1, "attempts", "must be at least 1");
    require(settings.cert_file.empty() == settings.key_file.empty(), settings.cert_file.empty() ? "cert_file" : "key_file",
            "a certificate needs its key, and a key its certificate: give both or neither");
    require(std::all_of(settings.token.begin(), settings.token.end(), [](char byte) { return byte > ' ' && byte <= '~'; }),
            "token", "has a character that no header can carry: a token is printable ASCII without spaces");
    require(settings.token.empty() || has_tls(settings) || settings.insecure || is_local(settings.address), "token",
            "would leave this machine without encryption: set tls, or insecure if the network is to be trusted");
}

// A PEM file. gRPC would find out about a bad one when it connects, and call it a lost server.
std::string read_pem(const std::string& path, const char* field, std::string_view kind) {
    if (path.empty()) return {};
    std::ifstream file(path, std::ios::binary);
    std::ostringstream read;
    if (!(read << file.rdbuf())) throw SettingsError(field, path + " cannot be read, or is empty");
    auto text = read.str();
    if (text.find("-----BEGIN ") == std::string::npos || text.find(kind) == std::string::npos)
        throw SettingsError(field, path + " is no PEM file with a " + std::string(kind));
    return text;
}

std::shared_ptr<grpc::ChannelCredentials> credentials_of(const Settings& settings) {
    if (!has_tls(settings)) return grpc::InsecureChannelCredentials();
    return grpc::SslCredentials({
        .pem_root_certs = read_pem(settings.ca_file, "ca_file", "CERTIFICATE"),
        .pem_private_key = read_pem(settings.key_file, "key_file", "PRIVATE KEY"),
        .pem_cert_chain = read_pem(settings.cert_file, "cert_file", "CERTIFICATE"),
    });
}

grpc::ChannelArguments arguments_of(const Settings& settings) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
    arguments.SetMaxSendMessageSize(kMaxMessageBytes);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);  // a server that died without a word is noticed
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
    arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);  // or a long silence ends them
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);     // or all clients of this process share one connection
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2'000);
    if (is_local(settings.address)) arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // it would see the token
    if (!settings.server_name.empty()) arguments.SetSslTargetNameOverride(settings.server_name);
    return arguments;
}

}  // namespace

Connection::Connection(const Settings& settings) {
    check(settings);
    if (!settings.token.empty()) authorization_ = "Bearer " + settings.token;
    stub_ = v1::RewardService::NewStub(
        grpc::CreateCustomChannel(settings.address, credentials_of(settings), arguments_of(settings)));
}

void Connection::prepare(grpc::ClientContext& context) const {
    if (!authorization_.empty()) context.AddMetadata("authorization", authorization_);
}

}  // namespace rm_grpc
