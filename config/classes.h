/* The [class NAME] sections: from statements to pool/class's table. */
#ifndef CONFIG_CLASSES_H
#define CONFIG_CLASSES_H

#include "config/ini.h"
#include "pool/class.h"

/* The NAME of a `class NAME` section, or NULL when the section is another. */
const char *classes_name_of(const char *section);
/* Makes a class of every [class NAME] header. */
MUST_USE bool classes_declare(struct class_table *table, const struct ini_list *statements,
                              struct config_report *report);
/* Sets fields and adds rules by the keys below those headers. */
MUST_USE bool classes_fill(struct class_table *table, const struct ini_list *statements,
                           struct config_report *report);

#endif
