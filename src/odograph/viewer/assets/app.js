const found = await (await fetch("api/list")).json();
const list = document.createElement("ul");
for (const row of found.rows ?? []) {
  const item = document.createElement("li");
  item.textContent = `${row.id.slice(-8)} ${row.status} ${row.task ?? ""}`;
  list.append(item);
}
document.body.append(found.error ?? list);
