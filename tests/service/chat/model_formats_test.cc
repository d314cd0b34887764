// The formats of well-known model families, from templates with the constructs that theirs are made
// of. The templates are written for this test; the expected prompts are those that the models were
// trained on, written out by hand.
#include <nlohmann/json.hpp>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/service/chat/render.h"

namespace sluice::testing {
namespace {

nlohmann::json Conversation(bool with_system) {
  nlohmann::json messages = nlohmann::json::array();
  if (with_system) messages.push_back({{"role", "system"}, {"content", " Be brief. "}});
  messages.push_back({{"role", "user"}, {"content", "Hi <there>\n"}});
  messages.push_back({{"role", "assistant"}, {"content", "Hello"}});
  messages.push_back({{"role", "user"}, {"content", "Bye"}});
  return messages;
}

nlohmann::json Variables(bool with_system, const std::string& bos, const std::string& eos) {
  return {{"messages", Conversation(with_system)},
          {"bos_token", bos},
          {"eos_token", eos},
          {"tools", nullptr},
          {"add_generation_prompt", true}};
}

constexpr char kLlama3[] = R"({{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{#- The system message is always there. #}
{{- "<|start_header_id|>system<|end_header_id|>\n\n" }}
{%- if tools is not none %}
    {{- raise_exception("no tools") }}
{%- endif %}
{{- "Cutting Knowledge Date: December 2023\n" }}
{{- "Today Date: " + date_string + "\n\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {{- message.tool_calls[0].function | tojson(indent=4) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
)";

TEST(ModelFormats, Llama3) {
  const std::string turns =
      "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi <there><|eot_id|>"
      "<|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
      "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|>"
      "<|start_header_id|>assistant<|end_header_id|>\n\n";
  const std::string begin =
      "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
      "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";
  EXPECT_EQ(RenderText(kLlama3, Variables(true, "<|begin_of_text|>", "<|eot_id|>")),
            begin + "Be brief." + turns);
  EXPECT_EQ(RenderText(kLlama3, Variables(false, "<|begin_of_text|>", "<|eot_id|>")),
            begin + turns);
}

constexpr char kQwen[] = R"({%- if tools %}
    {{- '<|im_start|>system\n# Tools\n' }}
    {%- for tool in tools %}
        {{- "\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "<|im_end|>\n" }}
{%- else %}
    {%- if messages[0]['role'] == 'system' %}
        {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}
    {%- endif %}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == "tool" %}
        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
)";

TEST(ModelFormats, Qwen) {
  const std::string turns =
      "<|im_start|>user\nHi <there>\n<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
      "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n";
  EXPECT_EQ(RenderText(kQwen, Variables(true, "", "<|im_end|>")),
            "<|im_start|>system\n Be brief. <|im_end|>\n" + turns);
  EXPECT_EQ(RenderText(kQwen, Variables(false, "", "<|im_end|>")),
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" + turns);
}

constexpr char kThinking[] = R"({%- set ns = namespace(last=messages|length - 1, searching=true) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "assistant" and '</think>' in content %}
        {%- set reasoning = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
        {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- if loop.index0 > ns.last %}
            {{- '<|im_start|>assistant\n<think>\n' + reasoning.strip('\n') + '\n</think>\n\n' + content }}
        {%- else %}
            {{- '<|im_start|>assistant\n' + content }}
        {%- endif %}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\n' + content }}
    {%- endif %}
    {{- '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\n\n</think>\n\n' }}
    {%- endif %}
{%- endif %}
)";

TEST(ModelFormats, ThinkingIsLeftOutOfEarlierAnswers) {
  nlohmann::json variables = Variables(false, "", "");
  variables["messages"][1]["content"] = "<think>\nhm\n</think>\n\nHello";
  variables["enable_thinking"] = false;
  EXPECT_EQ(RenderText(kThinking, variables),
            "<|im_start|>user\nHi <there>\n<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n"
            "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
  variables["messages"].erase(2);
  variables["add_generation_prompt"] = false;
  EXPECT_EQ(RenderText(kThinking, variables),
            "<|im_start|>user\nHi <there>\n<|im_end|>\n"
            "<|im_start|>assistant\n<think>\nhm\n</think>\n\nHello<|im_end|>\n");
}

constexpr char kMistral[] = R"({%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, roles must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\n\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported") }}
    {%- endif %}
{%- endfor %}
)";

TEST(ModelFormats, Mistral) {
  EXPECT_EQ(RenderText(kMistral, Variables(true, "<s>", "</s>")),
            "<s>[INST] Hi <there>\n[/INST] Hello</s>[INST]  Be brief. \n\nBye[/INST]");
  EXPECT_EQ(RenderText(kMistral, Variables(false, "<s>", "</s>")),
            "<s>[INST] Hi <there>\n[/INST] Hello</s>[INST] Bye[/INST]");
}

TEST(ModelFormats, MistralRefusesTwoUserTurnsInARow) {
  nlohmann::json variables = Variables(false, "<s>", "</s>");
  variables["messages"].erase(1);
  EXPECT_EQ(RenderText(kMistral, variables),
            "ERROR line 13: After the optional system message, roles must alternate");
}

constexpr char kChatMl[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ "
    "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' "
    "}}{% endif %}";

TEST(ModelFormats, ChatMl) {
  EXPECT_EQ(RenderText(kChatMl, Variables(true, "", "")),
            "<|im_start|>system\n Be brief. <|im_end|>\n<|im_start|>user\nHi <there>\n<|im_end|>\n"
            "<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
            "<|im_start|>assistant\n");
}

// Written without any "-": the settings of the environment do the work.
constexpr char kZephyr[] = R"({% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %})";

TEST(ModelFormats, LinesOfBlocksLeaveNothing) {
  EXPECT_EQ(RenderText(kZephyr, Variables(false, "", "</s>")),
            "<|user|>\nHi <there>\n</s>\n<|assistant|>\nHello</s>\n<|user|>\nBye</s>\n"
            "<|assistant|>\n");
}

}  // namespace
}  // namespace sluice::testing
