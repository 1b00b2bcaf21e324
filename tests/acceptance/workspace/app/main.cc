#include <iostream>
#include <iterator>

#include "app/counter.h"

int main() {
  const std::string text((std::istreambuf_iterator<char>(std::cin)), {});
  for (const auto& [word, count] : count_words(text)) std::cout << count << " " << word << "\n";
}
