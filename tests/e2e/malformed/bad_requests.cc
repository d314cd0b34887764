#include "tests/e2e/malformed/bad_requests.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string_view>
#include <utility>

#include "google/protobuf/stubs/logging.h"

namespace sluice::malformed {
namespace {

using v1::GenerateRequest;
using v1::ServerInfo;

uint64_t Below(Random& random, uint64_t n) { return random() % n; }

// Outside [low, high], or not a number.
float Outside(float low, float high, Random& random) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::array<float, 8> choices = {std::numeric_limits<float>::quiet_NaN(),
                                        inf,
                                        -inf,
                                        std::nextafter(low, -inf),
                                        std::nextafter(high, inf),
                                        low - 1.0F - static_cast<float>(Below(random, 1000)),
                                        high + 1.0F + static_cast<float>(Below(random, 1000)),
                                        std::numeric_limits<float>::max()};
  return choices[Below(random, choices.size())];
}

uint32_t Above(uint32_t limit, Random& random) {
  const std::array<uint32_t, 3> choices = {limit + 1, std::numeric_limits<uint32_t>::max(),
                                           limit + 1 + static_cast<uint32_t>(Below(random, 1000))};
  return choices[Below(random, choices.size())];
}

std::string Longer(size_t limit, Random& random) {
  return std::string(limit + 1 + Below(random, 1000), static_cast<char>('a' + Below(random, 26)));
}

using Setter = void (v1::Sampling::*)(float);
Mutation BadFloat(const char* name, Setter set, float low, float high) {
  return {name, [=](GenerateRequest* request, const ServerInfo&, Random& random) {
            (request->mutable_sampling()->*set)(Outside(low, high, random));
          }};
}

void AddSampling(std::vector<Mutation>* all) {
  using S = v1::Sampling;
  const float tiny = std::numeric_limits<float>::denorm_min();  // the least above an open zero
  all->push_back(BadFloat("temperature", &S::set_temperature, 0, 100));
  all->push_back(BadFloat("top_p", &S::set_top_p, tiny, 1));
  all->push_back(BadFloat("min_p", &S::set_min_p, 0, 1));
  all->push_back(BadFloat("repetition_penalty", &S::set_repetition_penalty, tiny, 10));
  all->push_back(BadFloat("presence_penalty", &S::set_presence_penalty, -2, 2));
  all->push_back(BadFloat("frequency_penalty", &S::set_frequency_penalty, -2, 2));
  all->push_back({"n", [](GenerateRequest* r, const ServerInfo&, Random& random) {
                    r->set_n(Above(16, random));
                  }});
  all->push_back({"logprobs", [](GenerateRequest* r, const ServerInfo&, Random& random) {
                    r->set_logprobs(Above(20, random));
                  }});
}

void AddPrompt(std::vector<Mutation>* all) {
  all->push_back(
      {"no prompt", [](GenerateRequest* r, const ServerInfo&, Random&) { r->clear_prompt(); }});
  all->push_back({"no ids", [](GenerateRequest* r, const ServerInfo&, Random&) {
                    r->mutable_token_ids()->clear_ids();
                  }});
  all->push_back({"id outside", [](GenerateRequest* r, const ServerInfo& info, Random& random) {
                    const auto i = static_cast<int>(Below(random, 3));
                    r->mutable_token_ids()->set_ids(i, Above(info.vocab_size() - 1, random));
                  }});
  all->push_back({"ids too many", [](GenerateRequest* r, const ServerInfo& info, Random& random) {
                    const uint64_t n = info.max_model_len() + Below(random, 1000);
                    while (static_cast<uint64_t>(r->token_ids().ids_size()) < n) {
                      r->mutable_token_ids()->add_ids(1);
                    }
                  }});
  all->push_back({"text too long", [](GenerateRequest* r, const ServerInfo& info, Random& random) {
                    r->set_text(Longer(size_t{256} * info.max_model_len(), random));
                  }});
}

void AddStopping(std::vector<Mutation>* all) {
  all->push_back({"max_tokens 0", [](GenerateRequest* r, const ServerInfo&, Random&) {
                    r->mutable_stopping()->set_max_tokens(0);
                  }});
  all->push_back({"min above max", [](GenerateRequest* r, const ServerInfo&, Random& random) {
                    r->mutable_stopping()->set_min_tokens(
                        Above(r->stopping().max_tokens(), random));
                  }});
  all->push_back(
      {"min above context", [](GenerateRequest* r, const ServerInfo& info, Random& random) {
         r->mutable_stopping()->clear_max_tokens();
         r->mutable_stopping()->set_min_tokens(Above(info.max_model_len(), random));
       }});
  all->push_back({"stops too many", [](GenerateRequest* r, const ServerInfo&, Random& random) {
                    for (uint64_t i = 0; i < 17 + Below(random, 100); ++i) {
                      *r->mutable_stopping()->add_stop() = std::string(1, 'x');
                    }
                  }});
  all->push_back({"stop empty", [](GenerateRequest* r, const ServerInfo&, Random&) {
                    r->mutable_stopping()->add_stop();
                  }});
  all->push_back({"stop long", [](GenerateRequest* r, const ServerInfo&, Random& random) {
                    r->mutable_stopping()->add_stop(Longer(256, random));
                  }});
  all->push_back({"stop ids too many", [](GenerateRequest* r, const ServerInfo&, Random&) {
                    for (int i = 0; i < 65; ++i) r->mutable_stopping()->add_stop_token_ids(1);
                  }});
  all->push_back(
      {"stop id outside", [](GenerateRequest* r, const ServerInfo& info, Random& random) {
         r->mutable_stopping()->add_stop_token_ids(Above(info.vocab_size() - 1, random));
       }});
}

void AddScheduling(std::vector<Mutation>* all) {
  all->push_back({"request_id long", [](GenerateRequest* r, const ServerInfo&, Random& random) {
                    r->set_request_id(Longer(128, random));
                  }});
  all->push_back({"tenant long", [](GenerateRequest* r, const ServerInfo&, Random& random) {
                    r->mutable_scheduling()->set_tenant(Longer(64, random));
                  }});
  all->push_back({"tenant character", [](GenerateRequest* r, const ServerInfo&, Random& random) {
                    constexpr std::string_view kBad = " !\"#$%&'()*+,/:;<=>?@[\\]^`{|}~\n\t";
                    std::string* tenant = r->mutable_scheduling()->mutable_tenant();
                    tenant->assign(1 + Below(random, 60), 't');
                    tenant->push_back(kBad[Below(random, kBad.size())]);
                  }});
  all->push_back({"priority low", [](GenerateRequest* r, const ServerInfo&, Random& random) {
                    r->mutable_scheduling()->set_priority(
                        -101 - static_cast<int32_t>(Below(random, 1'000'000)));
                  }});
  all->push_back({"priority high", [](GenerateRequest* r, const ServerInfo&, Random& random) {
                    r->mutable_scheduling()->set_priority(
                        101 + static_cast<int32_t>(Below(random, 1'000'000)));
                  }});
  all->push_back({"salt long", [](GenerateRequest* r, const ServerInfo&, Random& random) {
                    r->mutable_scheduling()->set_cache_salt(Longer(128, random));
                  }});
}

// A length-delimited field.
std::string Field(int number, const std::string& bytes) {
  std::string out;
  out.push_back(static_cast<char>(number << 3 | 2));
  out.push_back(static_cast<char>(bytes.size()));  // below 128
  out.append(bytes);
  return out;
}

}  // namespace

GenerateRequest GoodRequest() {
  GenerateRequest request;
  for (const uint32_t id : {1U, 2U, 3U}) request.mutable_token_ids()->add_ids(id);
  request.mutable_stopping()->set_max_tokens(2);
  request.mutable_stopping()->set_ignore_eos(true);
  return request;
}

const std::vector<Mutation>& Mutations() {
  static const std::vector<Mutation> kAll = [] {
    std::vector<Mutation> all;
    AddSampling(&all);
    AddPrompt(&all);
    AddStopping(&all);
    AddScheduling(&all);
    return all;
  }();
  return kAll;
}

std::string WithInvalidUtf8(Random& random) {
  // Lone continuation, cut characters, overlong, surrogate, too large, never valid.
  const std::array<std::string, 7> bad = {"\x80",
                                          "a\xC3",
                                          "\xE6\x97",
                                          "\xC0\xAF",
                                          "\xED\xA0\x80",
                                          "\xF5\x80\x80\x80",
                                          "ok\xFF"
                                          "end"};
  const std::string& bytes = bad[Below(random, bad.size())];
  std::string rest = GoodRequest().SerializeAsString();
  switch (Below(random, 5)) {
    case 0:
      return rest + Field(1, bytes);  // request_id
    case 1:
      return Field(2, bytes);  // text
    case 2:
      return rest + Field(5, Field(3, bytes));  // stopping.stop
    case 3:
      return rest + Field(6, Field(1, bytes));  // scheduling.tenant
    default:
      return rest + Field(6, Field(4, bytes));  // scheduling.cache_salt
  }
}

std::string NotAMessage(const google::protobuf::Message& message, Random& random) {
  const google::protobuf::LogSilencer silence;  // about bad strings
  const std::unique_ptr<google::protobuf::Message> parsed(message.New());
  for (;;) {
    std::string bytes;
    switch (Below(random, 3)) {
      case 0:
        for (uint64_t i = 0; i <= Below(random, 200); ++i) {
          bytes += static_cast<char>(Below(random, 256));
        }
        break;
      case 1:
        bytes = GoodRequest().SerializeAsString();
        bytes.resize(1 + Below(random, bytes.size() - 1));
        break;
      default:
        return std::string("\x2A\xFF\xFF\xFF\xFF\x07");
    }
    if (!parsed->ParseFromString(bytes)) return bytes;
  }
}

}  // namespace sluice::malformed
