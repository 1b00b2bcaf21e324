#include "app/counter.h"

#include "app/words.h"

std::map<std::string, int> count_words(const std::string& text) {
  std::map<std::string, int> counts;
  for (const std::string& word : split_words(text)) ++counts[word];
  return counts;
}
