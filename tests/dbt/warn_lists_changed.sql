{{ config(severity = 'warn') }}

with

lists as (

    select
        count(*) as list_count,
        count(*) filter (where list_change <> 'unchanged') as changed_list_count
    from {{ ref('recommendation_changes') }}
    where list_change not in ('new', 'gone')

)

select * from lists
where changed_list_count > {{ var('changed_lists_share_warned') }} * list_count
